"""What happens by itself. Dagster's own evaluator and instance are real; nothing is trained."""
