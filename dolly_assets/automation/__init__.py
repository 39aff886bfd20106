"""What happens by itself: datasets that arrive, sources that change, assets that follow, and who is told."""
