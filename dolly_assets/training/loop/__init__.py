"""The training loop: DeepSpeed under the Hugging Face Trainer, step by step and epoch by epoch.

It knows folders and numbers, and hands epochs to an observer; it knows nothing of the store.

- `request.py`: what to train; `fine_tune.py`: the function that does it, on every rank.
- `observer.py`: what a training hands over, and the protocol of the caller's side.
- `epochs.py`: what happens between steps: guards, saves, stopping, the end of an epoch.
- `progress.py`: the finished part of an epoch, beside a state saved in the middle of it.
- `trainer.py`: the Trainer, with its loss and its timed steps.
- `meter.py`: measurements of the steps; `example_losses.py`: the loss of every example.
- `loss_curve.py`: the loss over the steps of an epoch, as a picture.
- `guards.py`: checks of every step; `watchdog.py`: ends ranks that hang.
- `early_stopping.py`: whether the held-out loss still falls.
- `stop.py`: requests to stop; `out_of_memory.py`: what to change when memory runs out.
"""
