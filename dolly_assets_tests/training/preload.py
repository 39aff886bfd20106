"""What every fine-tune imports, for the server that forks them."""

from importlib import import_module

for module in ("deepspeed", "transformers.trainer", "transformers.integrations.deepspeed"):
    import_module(module)
