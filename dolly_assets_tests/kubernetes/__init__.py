"""A stand-in for a Kubernetes cluster: its API over HTTP, a Job controller, and a node.

The node runs pods as processes.
"""
