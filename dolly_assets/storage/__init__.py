"""Immutable artifacts in any object store, named by the digest of their content."""
