"""Tests of `dolly_assets/judging`."""
