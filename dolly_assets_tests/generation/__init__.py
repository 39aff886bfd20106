"""Tests of dolly_assets.generation."""
