"""Tests of dolly_assets.planning."""
