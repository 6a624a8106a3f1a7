"""Text to unit vectors: encoders, the batcher in front of them, and checkpoints."""
