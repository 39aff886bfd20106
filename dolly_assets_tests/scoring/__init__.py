"""Tests of dolly_assets.scoring."""
