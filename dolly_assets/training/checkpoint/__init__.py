"""Checkpoints: the state of a training as it is copied, written, published and resumed from.

It knows the files of the Trainer and DeepSpeed, and nothing of artifacts.

- `snapshot.py`: one rank's state, copied to host memory and written while training continues.
- `layout.py`: which of the files are published, and where; how a published state is resumed from.
- `unpickling.py`: what a state may hold before DeepSpeed opens it.
- `universal.py`: resuming on another number of ranks.
- `tensors.py`: a digest over the tensors of a weights folder.
"""
