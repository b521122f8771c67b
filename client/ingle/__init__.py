"""The client of ingle, a service that keeps language models warm.

    from ingle import Client

    with Client() as client:
        print(client.chat("Why is the sky blue?").text)

`ingle.Client` blocks; `ingle.aio.Client` is its twin for asyncio.
"""

TYPE_CHECKING = False  # the real one costs 10 ms: `import typing`, which `ingle version` does without
if TYPE_CHECKING:
    from ingle.client import Client, Events, Stream
    from ingle.errors import (
        Cancelled,
        DaemonFailed,
        IngleError,
        NoSuchModel,
        NotAllowed,
        PromptTooLong,
        ProtocolError,
        Refused,
        Unreachable,
    )
    from ingle.results import Answer, Daemon, Delta, Embeddings, Event, Model, Progress, RequestInfo, Status, Who

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Cancelled",
    "Client",
    "Daemon",
    "DaemonFailed",
    "Delta",
    "Embeddings",
    "Event",
    "Events",
    "IngleError",
    "Model",
    "NoSuchModel",
    "NotAllowed",
    "Progress",
    "PromptTooLong",
    "ProtocolError",
    "Refused",
    "RequestInfo",
    "Status",
    "Stream",
    "Unreachable",
    "Who",
]

_HOMES = {
    "client": ("Client", "Events", "Stream"),
    "results": (
        "Answer",
        "Daemon",
        "Delta",
        "Embeddings",
        "Event",
        "Model",
        "Progress",
        "RequestInfo",
        "Status",
        "Who",
    ),
}


def __getattr__(name: str) -> object:
    """Import what is asked for only now, so that `import ingle` and the command stay fast."""
    if name not in __all__:
        raise AttributeError(f"module 'ingle' has no attribute {name!r}")
    from importlib import import_module

    home = next((module for module, names in _HOMES.items() if name in names), "errors")
    value: object = getattr(import_module(f"ingle.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
