"""A digest of the tensors in a weights folder: equal digests mean equal models.

It knows the safetensors format and nothing of models. A manifest's digests show whether files are
intact; this one shows whether tensors are equal, however they are sharded, ordered or annotated.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dolly_assets.core.errors import ArtifactError

# The limit of the safetensors library itself: a longer header counts as damage.
_MAX_HEADER_BYTES = 100_000_000
_CHUNK_BYTES = 1 << 22
# What comes out of reading JSON that is none, or another document than expected.
_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class Tensor(NamedTuple):
    """Where a tensor lies in a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int  # byte offsets in the file
    end: int


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of name, dtype, shape and bytes of every tensor in the folder.

    Tensors are sorted by name. Bytes are read as stored, in chunks: bfloat16 needs no array
    library, and memory stays bounded.

    Raises:
        ArtifactError: The folder has no safetensors files, one is damaged or missing, or two hold
            the same tensor.
    """
    tensors: dict[str, Tensor] = {}
    for file in shards(folder):
        for tensor in read_header(file):
            if tensor.name in tensors:
                raise ArtifactError(
                    f"{file}: tensor {tensor.name!r} is also in {tensors[tensor.name].file.name}; "
                    "keep only the shards of one model in the folder"
                )
            tensors[tensor.name] = tensor
    digest = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        # JSON delimits the fields, so that no two lists of tensors write the same bytes.
        digest.update(json.dumps([tensor.name, tensor.dtype, tensor.shape]).encode())
        for chunk in read_bytes(tensor):
            digest.update(chunk)
    return digest.hexdigest()


def shards(folder: Path) -> list[Path]:
    """Return the safetensors files of the folder; raise ArtifactError if any is missing."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ArtifactError(f"{folder}: expected weights as *.safetensors, found none")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            named = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
        except _DAMAGE as error:
            raise ArtifactError(f"{index}: its list of shards is damaged ({error!r})") from error
        if missing := sorted(named - {file.name for file in files}):
            raise ArtifactError(
                f"{folder}: shard {missing[0]} is missing, though {index.name} lists it"
            )
    return files


def read_header(file: Path) -> list[Tensor]:
    """Return the tensors of one file.

    The format (https://github.com/huggingface/safetensors#format) is 8 bytes with the length of the
    header as little-endian u64; the header, JSON of name -> {dtype, shape, data_offsets} and
    `__metadata__`; and the data, from whose beginning the offsets count.
    """
    file_bytes = file.stat().st_size
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        if not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, file_bytes - 8):
            raise ArtifactError(
                f"{file}: not a safetensors file, or truncated in its header ({file_bytes} bytes)"
            )
        header = stream.read(header_bytes)
    start = 8 + header_bytes
    try:
        tensors = [
            Tensor(
                name,
                entry["dtype"],
                tuple(entry["shape"]),
                file,
                *(start + at for at in entry["data_offsets"]),
            )
            for name, entry in json.loads(header).items()
            if name != "__metadata__"
        ]
        if not all(start <= tensor.begin <= tensor.end for tensor in tensors):
            raise ValueError("a tensor ends before it begins")
    except _DAMAGE as error:
        raise ArtifactError(f"{file}: its safetensors header is damaged ({error!r})") from error
    expected_bytes = max((tensor.end for tensor in tensors), default=start)
    if expected_bytes != file_bytes:
        raise ArtifactError(
            f"{file}: its header states {expected_bytes} bytes, found {file_bytes}; "
            "fetch the file again"
        )
    return tensors


def read_bytes(tensor: Tensor) -> Iterator[bytes]:
    """Yield a tensor's bytes as they are stored, in chunks."""
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.begin)
        left_bytes = tensor.end - tensor.begin
        while left_bytes > 0 and (chunk := stream.read(min(_CHUNK_BYTES, left_bytes))):
            left_bytes -= len(chunk)
            yield chunk
