"""Where entries live: the protocol and its implementations."""
