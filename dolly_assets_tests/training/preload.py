"""What every fine-tune imports, and its environment, for the server that forks them."""

import os
from importlib import import_module

os.environ.update(
    DS_ACCELERATOR="cpu", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", DS_LOG_LEVEL="error"
)
for module in ("deepspeed", "transformers.trainer", "transformers.integrations.deepspeed"):
    import_module(module)
