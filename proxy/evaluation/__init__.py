"""Labelled questions asked of the real decision path, and how well it did."""
