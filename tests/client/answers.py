"""What the stand-in for the daemon is asked and answers, and how tests wait for it."""

import os
import select
from time import monotonic

TEXT = "Once upon a tïme there was a fire." * 6
CHAT = {"t": "request", "op": "chat", "body": {"messages": [{"role": "user", "content": "hi"}]}}


def until(fd: int, wanted: bytes) -> bytes:
    """Read until the text has come."""
    seen, end = b"", monotonic() + 60
    while wanted not in seen:
        assert select.select([fd], [], [], max(0.0, end - monotonic()))[0], seen
        data = os.read(fd, 4096)
        assert data, seen
        seen += data
    return seen
