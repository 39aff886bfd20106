"""Keys for signatures, as openssl makes them."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

SUBJECT = PublicFormat.SubjectPublicKeyInfo


def make_keys(folder: Path) -> tuple[Path, Path]:
    """A private key and its public one, in a new folder."""
    folder.mkdir()
    key, public = folder / "key.pem", folder / "public.pem"
    made = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(
        made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    public.write_bytes(made.public_key().public_bytes(Encoding.PEM, SUBJECT))
    return key, public
