"""Packing: several examples in one sequence, trained as if each were alone.

It knows token ids and models; it knows nothing of text, datasets or ranks.

- `batches.py`: from rows to micro-batches, packed or padded.
- `attention.py`: attention within each example of a packed sequence.
- `loss.py`: the loss over labelled tokens only.
- `self_check.py`: a proof on the model itself that packed examples do not see each other.
"""
