"""Federated training of the encoder on public pairs, beside the bundled one and pooled training."""
