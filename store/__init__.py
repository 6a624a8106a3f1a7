"""Vectors, policies and documents. Receives numbers and decides with them; never encodes text."""
