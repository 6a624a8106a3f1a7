"""What we read and write of each wire format, one module a wire."""
