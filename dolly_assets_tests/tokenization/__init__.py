"""Tests of dolly_assets.tokenization."""
