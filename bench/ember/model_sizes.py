"""How large the network may be. Standard library only."""

from typing import Final

CONTEXT: Final = 32768
SIZES: Final[dict[str, dict[str, int]]] = {
    "small": {"hidden": 192, "layers": 4, "heads": 6, "kv_heads": 2, "head_dim": 32, "inner": 512},
    "large": {"hidden": 512, "layers": 8, "heads": 8, "kv_heads": 2, "head_dim": 64, "inner": 1536},
}
"""`small` comes with ingle; `large` (25 M parameters) is for a GPU."""


def parameters(size: dict[str, int], words: int) -> int:
    """Return the number of parameters."""
    hidden, heads = size["hidden"], 2 * size["heads"] + 2 * size["kv_heads"]
    layer = hidden * heads * size["head_dim"] + 3 * hidden * size["inner"] + 2 * hidden + 2 * size["head_dim"]
    return words * hidden + size["layers"] * layer + hidden
