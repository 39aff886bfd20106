"""What turns YAML into assets."""
