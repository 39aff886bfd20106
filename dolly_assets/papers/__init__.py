"""Documents of a model and its data, written from what the store records.

Functions from recorded attributes to text: nothing is typed by hand, and what is not recorded says
so. The figures are those of `registry/lineage.py` and of the manifests.

- `record`: what the store has on a model; the only part that reads it.
- `wording`: values and figures as papers state them.
- `licensing`: the licence of a card, and whether a model may be made public.
- `model_card`: Markdown with the Hub's metadata.
- `data_summary`: the European Commission's summary of training content.
- `ml_bom`: CycloneDX.
- `croissant`: JSON-LD of a raw dataset.
- `signing`: signatures of artifacts by a key.
- `documents`: all of them by format, and as files in a folder.
- `push`: a model with its documents as a repository; `hub`: the repository.
"""
