"""Federated training of the similarity model. Nothing here yet (part 6)."""
