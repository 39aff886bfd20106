"""`dolly`, the command line: options, what a command prints, exit codes.

Knows no asset and no file of an artifact: commands ask the other parts of the package, which are
imported inside a command when it runs, so that `dolly --help` and short commands start quickly.

- `main`: the group of all commands; errors as one line and an exit code.
- `_options`: options that several commands share, declared once.
- `_session`: the store and the session of this process's environment.
- `train`, `status`, `plan`: training, its results, and what it would need.
- `datasets`, `preview`: the catalogue, and the rows of a tokenized dataset.
- `artifacts`, `lineage`, `verify`, `sign`, `gc`: the content of the store.
- `forget`: what holds a record.
- `card`, `push`: the documents of a model, and the model on the Hub.
- `models`: the declared model families, and new ones.
- `champion`, `promote`, `rollback`: the models in stages; `_stages`: what they share.
- `chat`: answers of a checkpoint, or of a model in a stage.
- `serve`: published models behind OpenAI's API.
- `rollout`: servers in a cluster restart when another model is in production.
- `playground`: answers in the browser, of two models side by side if wished.
- `export`: a checkpoint as a folder that other programs load.
- `profile`, `reports`: what the devices did, on the terminal and in the browser.
- `ui`: the Dagster UI.
- `doctor`: what is missing on this machine or in the cluster.
"""

from dolly_assets.cli.main import main

__all__ = ["main"]
