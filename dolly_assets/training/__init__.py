"""Fine-tuning: base models, recipes, and what the ranks of a training run under DeepSpeed.

It knows folders, tables and models; it knows nothing of the store, of Dagster, or of how ranks are
launched.

- `base_model/`: from what a family names to a folder of weights that can be fine-tuned.
- `recipe.py`, `presets/`, `deepspeed/`: the hyper-parameters, and DeepSpeed's configuration.
- `loop/`: the training itself, from step to step and from epoch to epoch.
- `packing/`: rows, micro-batches, attention within examples, and the loss.
- `checkpoint/`: snapshots of a training, and the layout in which they are published.
- `context.py`: how many tokens an example of a model may have.
- `lora.py`: adapters; `kernels.py`: fused kernels; `flops.py`: operations of a training.
- `process_group.py`: the ranks as one group.
- `weights_files.py`: which files of a model's folder are published.
- `seams.py`: the private interfaces of transformers, DeepSpeed and torch that we use.
"""
