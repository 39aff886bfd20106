"""What runs on the machine with the devices: fetch artifacts, call the plain libraries, publish what came out.

A worker knows no Dagster. It gets one JSON spec (`spec.py`), and speaks through `dagster_pipes`
messages (`report.py`).
"""
