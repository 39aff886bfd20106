"""Preferences from files, and votes in a store."""
