"""Fine-tuning: base models, recipes, and the worker that DeepSpeed runs."""
