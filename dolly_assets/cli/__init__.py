"""`dolly`, the command line."""

from dolly_assets.cli.main import main

__all__ = ["main"]
