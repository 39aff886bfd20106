"""Tests of dolly_assets.launchers."""
