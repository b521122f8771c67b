"""The folder of a LoRA adapter, and whether it is one of its base: asked before an engine is told to load it.

vLLM takes adapters of another model's shape without a word, and answers nonsense; and one file format can carry code.
Only headers are read.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ingled.models import tensors
from ingled.models.tensors import Unreadable

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
CONFIG_BYTES = 4 << 20
PART = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is known of an adapter without an engine."""

    rank: int
    shapes: dict[str, list[int]]
    """Of its tensors."""


def read(folder: Path) -> Adapter:
    """Look into an adapter's folder. Raises Unreadable."""
    if not folder.is_dir():
        raise Unreadable(f"{folder} holds no adapter: there is no such folder")
    path = folder / CONFIG_FILE
    try:
        with tensors.open_plain(path) as file:
            said: Any = msgspec.json.decode(file.read(CONFIG_BYTES))
    except OSError as error:
        raise Unreadable(f"{folder} holds no adapter: {CONFIG_FILE}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"{path}: not JSON: {error}") from error
    if not isinstance(said, dict) or said.get("peft_type") != "LORA":
        raise Unreadable(f"{path}: this is no LoRA adapter: peft_type is not 'LORA'")
    rank = said.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise Unreadable(f"{path}: r, the rank, is {rank!r}: expected a number from 1")
    return Adapter(rank, tensors.shapes(folder / WEIGHTS_FILE))


def check(folder: Path, base: Path) -> None:
    """Say whether an adapter was made for this model, as far as headers tell. Raises Unreadable.

    What the base does not have under the same name (quantized weights, for one) is left to the engine.
    """
    found = read(folder)
    theirs: dict[str, list[int]] = {}
    for name in tensors.names(base):
        theirs |= tensors.shapes(base / name)
    for name, shape in found.shapes.items():
        part = PART.fullmatch(name)
        of = theirs.get(f"{part[1]}.weight") if part else None
        if part is None or of is None or len(of) != 2 or len(shape) != 2:
            continue
        mine, wanted = (shape[1], of[1]) if part[2] == "A" else (shape[0], of[0])
        if mine != wanted:
            text = (
                f"{part[1]} takes {wanted} numbers there, and {mine} here"
                if part[2] == "A"
                else (f"{part[1]} makes {wanted} numbers there, and {mine} here")
            )
            raise Unreadable(f"{folder} is an adapter of another model than {base}: {text}")
