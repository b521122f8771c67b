"""vLLM's errors in words for people; without importing vLLM."""

import re

from ingled.worker.engine import EngineRefused


def one_line(error: BaseException) -> str:
    """Return the error's own words in one line, without pydantic's frame around them."""
    details = getattr(error, "errors", None)
    if callable(details):  # pydantic.ValidationError
        return "; ".join(_pydantic(detail) for detail in details())
    text = str(error.args[0]) if error.args and isinstance(error.args[0], str) else str(error)
    if found := re.search(r"unexpected keyword argument '(\w+)'", text):
        return f"vLLM has no option '{found[1]}'"
    return " ".join(text.split()) or type(error).__name__


def _pydantic(detail: dict[str, object]) -> str:
    text = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    where = ".".join(str(part) for part in detail["loc"] if part) if isinstance(detail["loc"], tuple) else ""
    return " ".join(f"{where}: {text}".split() if where else text.split())


def unrendered_chat(error: Exception) -> EngineRefused:
    """Return the refusal of messages that could not be made into tokens."""
    text = one_line(error)
    if "chat template" in text.lower():
        hint = "use op 'complete', or give the profile a chat_template"
        return EngineRefused("unsupported", f"the model has no chat template: {text}", hint)
    return EngineRefused(
        "bad_value", text, "correct the messages: the model's template refuses them", at="body.messages"
    )


def failed(message: str) -> EngineRefused:
    """Return the failure of a request that the engine took."""
    return EngineRefused("engine_error", message, "try again; the worker's log may say more", fault="worker")
