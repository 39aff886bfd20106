"""Workers as Kubernetes Jobs: built, submitted, followed, ended."""
