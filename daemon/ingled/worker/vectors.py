"""Vectors as a client gets them: packed once, where they are made, and forwarded unread. Pure."""

from array import array
from collections.abc import Sequence

from ingle.wire.limits import FRAME_BYTES

from ingled.worker.engine import EngineRefused

NUMBER_BYTES = 5
"""Of a float of four bytes in MessagePack: its kind, and itself."""
ROOM_BYTES = FRAME_BYTES - 4096
"""Of one message; the rest is for what is said beside the vectors."""


def pack(vectors: Sequence["array[float]"]) -> bytes:
    """Return vectors (`array("f")`) as MessagePack: a list of lists of floats with four bytes each, as they are."""
    out = bytearray(b"\xdd" + len(vectors).to_bytes(4, "big"))
    for vector in vectors:
        size = len(vector)
        swapped = array("f", vector)
        swapped.byteswap()  # every machine that vLLM runs on is little-endian
        raw, part = swapped.tobytes(), bytearray(NUMBER_BYTES * size)
        part[0::NUMBER_BYTES] = b"\xca" * size
        for at in range(4):
            part[at + 1 :: NUMBER_BYTES] = raw[at::4]
        out += b"\xdd" + size.to_bytes(4, "big") + part
    return bytes(out)


def check_room(count: int, size: int) -> None:
    """Refuse so many vectors of such a length if no message can carry them. Raises EngineRefused."""
    one = NUMBER_BYTES * (size + 1)
    if count * one > ROOM_BYTES:
        text = f"{count} vectors of {size} numbers have {count * one} bytes, and a message has room for {ROOM_BYTES}"
        raise EngineRefused("too_large", text, f"ask for at most {ROOM_BYTES // one} at once", at="body.input")


def text_too_long(index: int, tokens: int, context: int) -> EngineRefused:
    """Return the refusal of a text that the model cannot take whole."""
    text = f"input[{index}] has {tokens} tokens, and the model takes {context}"
    hint = f"cut it into pieces of at most {context} tokens, or choose a model with a longer context"
    return EngineRefused("prompt_too_long", text, hint, at=f"body.input[{index}]")
