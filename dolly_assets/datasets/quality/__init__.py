"""What is wrong with instruction data: one module per family of checks, put together in `suite`.

It knows texts and record numbers, and of a family only what it is given: markers, prompts, which
records are held out.
"""
