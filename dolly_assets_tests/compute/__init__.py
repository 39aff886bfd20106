"""Tests of dolly_assets.compute."""
