"""Tests of `dolly_assets.hardware`."""
