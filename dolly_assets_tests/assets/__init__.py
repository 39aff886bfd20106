"""Tests of dolly_assets.assets."""
