"""Federated training of the similarity model, on Flower; no text leaves a site (MeanCache)."""
