"""Files that the tests of the store publish, compare and damage."""

from pathlib import Path

MODEL = bytes(range(256)) * 36_000 + b"the last chunk differs"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def flip_a_bit(path: Path) -> None:
    """Damages a file without changing its size; as root may, even if the file is read-only."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def blob_of(store_folder: Path, artifact_file_sha256: str) -> Path:
    return store_folder / "blobs" / "sha256" / artifact_file_sha256[:2] / artifact_file_sha256
