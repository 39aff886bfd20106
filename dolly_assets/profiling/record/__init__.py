"""Takes samples of a process tree, its host and its GPUs, and appends them to files in a folder.

Runs as a process of its own beside what it watches, and knows nothing of how samples are read or
shown. Its modules are imported one by one: the sampler starts without NumPy, Arrow and pydantic.

- `sampler`: the sampling process and the class that starts it; writes `samples.jsonl`.
- `gpus`: finds the GPUs and reads all of them at each tick, each on a thread of its own.
- `readings`: the table of what is read of a GPU, and how often.
- `topology`: how GPUs are connected.
- `background_call`: a call on another thread that may never return.
- `host`: readings of the host and of a process tree.
- `devices`: the description of hardware and software, `devices.json`.
- `events`: what happened to a GPU, `events.jsonl`, and its error counts, `health.jsonl`.
- `journal`: JSON lines that survive the death of their writer.
"""
