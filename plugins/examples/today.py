"""A hook that tells the model which day it is: models do not know.

python plugins/examples/today.py
"""

from datetime import datetime
from typing import Any

from ingle.hooks import Verdict, changed, hook, run


@hook(point="prompt", order=200, deadline_ms=200)
def today(messages: list[dict[str, Any]]) -> Verdict | None:
    """Put the date in front of a conversation."""
    if messages[0]["role"] == "prompt":  # a text to go on with, not a conversation
        return None
    now = datetime.now().astimezone()
    return changed([{"role": "system", "content": f"It is {now:%A, %d %B %Y, %H:%M %Z}."}, *messages])


if __name__ == "__main__":
    run()
