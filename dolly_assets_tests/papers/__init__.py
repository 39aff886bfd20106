"""Documents derived from what is recorded."""
