"""Tests of dolly_assets.components."""
