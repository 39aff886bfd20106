"""One module per asset, named after it."""
