"""Tests of dolly_assets.training."""
