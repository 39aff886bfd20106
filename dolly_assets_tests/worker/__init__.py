"""Tests of dolly_assets.worker."""
