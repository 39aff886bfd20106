"""Where instruction data comes from, and the columns it is brought to."""
