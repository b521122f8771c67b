"""A model's folder, as far as its memory is concerned: a lower bound of its need, and a digest by which it is known."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ingled.models import architecture, tensors
from ingled.models.architecture import Architecture
from ingled.models.tensors import Tensors, Unreadable

CONFIG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Folder:
    """What is known of a model without an engine."""

    tensors: Tensors
    architecture: Architecture
    digest: str
    """Of its configuration and the headers of its weights: what decides how much memory it takes."""

    def weights_bytes(self, dtype: str | None = None) -> int:
        """Return the least that the weights take with this dtype; None and `auto` mean the model's own."""
        if self.architecture.quantized or (dtype in (None, "auto") and self.architecture.dtype != "float32"):
            return self.tensors.bytes
        return self.tensors.loaded_bytes(self.architecture.width(dtype))

    def token_bytes(self, dtype: str | None = None) -> int:
        """Return the least that a token takes in the KV cache."""
        return self.architecture.token_bytes(self.architecture.width(dtype))


def read(folder: Path) -> Folder:
    """Read configuration and headers. Raises Unreadable."""
    path = folder / "config.json"
    try:
        with tensors.open_plain(path) as file:
            text = file.read(CONFIG_BYTES + 1)
        config: Any = msgspec.json.decode(text)
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"{path}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise Unreadable(f"{path}: not a configuration")
    digest = hashlib.sha256(text)
    found = []
    for name, header, data in tensors.headers(folder):
        found.append(tensors.parse(header, data, str(folder / name)))
        digest.update(f"{name}\0{len(header)}\0{data}\0".encode() + header)
    return Folder(tensors.add(found), architecture.read(config), digest.hexdigest()[:32])
