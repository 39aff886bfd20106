"""A stand-in for a Kubernetes cluster: its API over HTTP, a Job controller, and a node that runs pods as processes."""
