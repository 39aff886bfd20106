"""Tests of dolly_assets.profiling."""
