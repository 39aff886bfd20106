"""Starting workers and following them, on this machine or elsewhere."""
