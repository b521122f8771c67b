"""The rows of the comparison, by the name that `--rows` takes."""

from bench.contenders import Contender, Ingle, IngleAsync, IngleBefore, Raw, RustServe, Serve
from bench.llama_cpp import LlamaCpp

CONTENDERS: dict[str, type[Contender]] = {
    "raw": Raw,
    "ingle": Ingle,
    "async": IngleAsync,
    "before": IngleBefore,
    "serve": Serve,
    "rust": RustServe,
    "llama": LlamaCpp,
}
DEFAULT_ROWS = ("raw", "ingle", "serve", "rust", "llama")
BASES = ("raw", "rust")
"""What ratios are made against."""
TO_COME = {"ingle, through its gateway": "there is no gateway yet"}
"""Rows that no machine can have, and why."""
