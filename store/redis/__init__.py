"""Entries, records, the journal and shared flights in Redis, for many replicas."""
