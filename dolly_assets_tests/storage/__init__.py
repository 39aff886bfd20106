"""Tests of dolly_assets.storage."""
