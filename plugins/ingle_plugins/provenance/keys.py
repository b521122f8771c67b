"""Keys that sign records: Ed25519, in PEM files that only their owner can read.

`cryptography` is imported when a key is needed, and not before: records without a signature do without.
"""

import base64
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingle.wire.provenance import signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LARGEST = 16 << 10


class WrongKey(Exception):
    """A key cannot be used or made; the message says why, and never what is in the file."""


class Key:
    """A private key, which shows only its public half."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private
        self.public = f"ed25519:{_packed(private.public_key().public_bytes_raw())}"

    def __repr__(self) -> str:
        return f"Key({self.public})"

    def sign(self, data: bytes) -> str:
        """Return a signature, as records have it."""
        return _packed(self._private.sign(data))


def sign(record: dict[str, Any], key: Key) -> dict[str, Any]:
    """Return a record with the public key and a signature over all of it."""
    record = {**record, "key": key.public}
    return {**record, "signature": key.sign(signed_bytes(record))}


def load(path: str) -> Key:
    """Return the key in a file; a file that has changed is read anew. Raises WrongKey."""
    place = Path(path).expanduser()
    if not place.is_absolute():
        raise WrongKey(f"{path}: is no absolute path")
    data, when = _private_bytes(place)
    return _loaded(data, when)


def _private_bytes(place: Path) -> tuple[bytes, int]:
    """Return what is in a file that nobody else can read or could have written."""
    try:
        file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise WrongKey(f"{place}: {error.strerror}") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise WrongKey(f"{place}: is no file")
        if status.st_uid not in (os.geteuid(), 0):
            raise WrongKey(f"{place}: belongs to somebody else (uid {status.st_uid})")
        # systemd lets only the service's account read a credential: by an ACL, which shows as the group's bit.
        if status.st_mode & (0o037 if _is_credential(place) else 0o077):
            mode = stat.S_IMODE(status.st_mode)
            raise WrongKey(f"{place}: others may read it (mode {mode:04o}); chmod 600 {place}")
        return os.read(file, LARGEST), status.st_mtime_ns
    finally:
        os.close(file)


def _is_credential(place: Path) -> bool:
    """Return whether systemd has put this file there for us (LoadCredential=)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and place.parent == Path(folder or "")


@lru_cache(maxsize=4)
def _loaded(data: bytes, when: int) -> Key:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise WrongKey("signing needs the package cryptography: pip install 'ingle[plugins]'") from None
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):  # whatever it says could quote the file
        raise WrongKey("the file holds no private key in PEM, or one with a password") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise WrongKey("the key is not one for Ed25519")
    return Key(private)


def make(path: str) -> str:
    """Make a key in a new file, and its public half beside it in `PATH.pub`; returns the public key."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    except ImportError:
        raise WrongKey("making a key needs the package cryptography: pip install 'ingle[plugins]'") from None
    place = Path(path).expanduser()
    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write(place, secret, 0o600)
    try:
        _write(place.with_name(place.name + ".pub"), public, 0o644)
    except WrongKey:
        place.unlink()  # half a pair is none
        raise
    return Key(private).public


def _write(place: Path, data: bytes, mode: int) -> None:
    try:
        file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise WrongKey(f"{place}: is there already, and is not overwritten") from None
    except OSError as error:
        raise WrongKey(f"{place}: {error.strerror}") from None
    with open(file, "wb") as out:
        os.fchmod(file, mode)  # whatever the umask is
        out.write(data)
        out.flush()
        os.fsync(file)


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
