"""Near-hits measured: real small models, and an oracle in the large model's place."""
