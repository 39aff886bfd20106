"""What every other part of the package builds on: configuration, errors, names, texts.

Knows neither stores nor models nor Dagster, and imports no other part of the package. Its modules
are imported one by one, so that a command which needs only errors does not load pydantic.

- `base`: the frozen pydantic model behind everything that is declared.
- `environment`: the settings of a process, from environment variables.
- `errors`: the errors that a user or a caller can act on.
- `home`: the folder of everything that is kept on this machine.
- `names`: which names of datasets and families are allowed, and ranges of epochs.
- `text`: numbers, times and errors in words.
- `markdown`: Markdown in which any text stays text.
- `urls`: the default URL of reports, and URLs without the passwords and tokens in them.
- `yaml_text`: YAML that users write, with one limit and one error.
- `git_lfs`: the pointers that a clone without Git LFS has instead of large files.
- `mappings`: merging of nested settings.
- `png`: charts as small pictures.
- `processes`: how a process exits together with its parent.
- `hashing`: digests of JSON values.
- `code_digest`: the digest of this package's own code.
"""
