"""Tests of dolly_assets.datasets.quality."""
