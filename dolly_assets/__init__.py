"""Fine-tuned language models as data assets: Dagster outside, DeepSpeed inside, an object store between."""

__version__ = "0.1.0"
