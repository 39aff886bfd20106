"""The Dagster UI as people use it, in Chromium. Server, daemon, code location and runs are real."""
