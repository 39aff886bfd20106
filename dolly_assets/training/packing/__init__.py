"""Packing: several examples in one sequence, trained as if each were alone.

It knows token ids and models; it knows nothing of text, datasets or ranks.

- `batches.py`: from rows to micro-batches, packed or padded.
- `attention.py`: attention within each example of a packed sequence.
- `layout.py`: whether a model trains examples packed, padded, or one by one.
- `expected.py`: the layout of a base model, determined when it is prepared.
- `exactness.py`, `miniature.py`: the proof of a layout, on a small copy of the model.
- `loss.py`: the loss over labelled tokens only; `chunks.py`: without all of their logits;
  `chunk_gradients.py`: with its gradients from the forward pass.
- `layout.py`: packed or padded, and the collator that follows the choice.
- `self_check.py`: the choice: the first layout in which each example is computed as it is alone.
- `exactness.py`: the test of an architecture, on a small copy.
- `miniature.py`: small copies, whose limits are below the lengths of the test.
- `expected.py`: the layouts of a base model, found when it is prepared.
"""
