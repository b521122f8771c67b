"""What is asked of a server in one measurement, and what comes of it. Pure.

Prompts differ from their first word on, so that no prefix cache helps, and they are the same for every row of a round.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.spread import percentile

SENTENCE = (
    "THE OLD KEEPER LIGHTS A LAMP NEAR THE RIVER AND THE QUIET TRAVELLER FINDS THE WARM FIRE IN THE SMALL HOUSE WHILE "
    "EVERY GENTLE SAILOR REMEMBERS SOME STORY OF WINTER"
)
"""In capitals, because the vocabulary of the models measured has none of these: every tokenizer reads a letter as a
token. vLLM's front end in Rust knows nothing of the `ignore_merges` that makes a token of a whole word of it."""
PROMPT_WORDS = {"short": 12, "long": 180}
"""About 70 and 1,000 letters."""


@dataclass(frozen=True)
class Load:
    """One measurement: so many requests, so many of them at a time."""

    concurrency: int
    requests: int
    prompt: str = "short"
    streamed: bool = True
    tokens: int = 128
    round: int = 0

    @property
    def title(self) -> str:
        """Return what distinguishes its table from others."""
        return f"{self.concurrency} at once, {self.prompt} prompts, {'streamed' if self.streamed else 'whole'}"

    def text(self, index: int) -> str:
        """Return the prompt of a request."""
        words = SENTENCE.split()
        kind = f"{self.prompt[0].upper()}{'SW'[not self.streamed]}"
        mark = f"{self.round:04}X{self.concurrency}{kind}{index:05}"  # of one length, and so the prompts of all rounds
        return " ".join([mark, *(words[(index + at) % len(words)] for at in range(PROMPT_WORDS[self.prompt]))])

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What one measurement gave."""

    seconds: float
    tokens: int
    prompt_tokens: int
    """As the server counts them, of all requests; 0 where it does not say."""
    firsts: Sequence[float]
    """Seconds from asking to the first text; to the whole answer where it is not streamed."""
    gaps: Sequence[float]
    """Seconds between pieces of one answer."""
    pieces: int
    client_cpu_s: float
    cpu_s: dict[str, float]
    """By part of the server, over the time of the measurement."""
    rss_bytes: dict[str, int]
    pss_bytes: dict[str, int]
    """As resident memory, but a page that processes share is counted once."""
    others: float
    """Cores that were busy with anything but server and client: a disturbance."""

    def figures(self) -> dict[str, float | None]:
        """Return the numbers that go into tables, by name."""
        thousands = self.tokens / 1000
        front = sum(seconds for part, seconds in self.cpu_s.items() if part != "core")
        found: dict[str, float | None] = {
            "tokens_s": self.tokens / self.seconds,
            "first_p50_ms": milliseconds(percentile(self.firsts, 0.5)),
            "first_p99_ms": milliseconds(percentile(self.firsts, 0.99)),
            "between_p50_ms": milliseconds(percentile(self.gaps, 0.5)),
            "between_p99_ms": milliseconds(percentile(self.gaps, 0.99)),
            "prompt_tokens": self.prompt_tokens or None,
            "tokens_per_piece": self.tokens / self.pieces if self.pieces else None,
            "front_cpu_s_per_1k": front / thousands,
            "core_cpu_s_per_1k": self.cpu_s.get("core", 0.0) / thousands,
            "client_cpu_s_per_1k": self.client_cpu_s / thousands,
            "front_rss_mb": sum(size for part, size in self.rss_bytes.items() if part != "core") / 1e6,
            "core_rss_mb": self.rss_bytes.get("core", 0) / 1e6,
            "pss_mb": sum(self.pss_bytes.values()) / 1e6,
            "other_cores": self.others,
        }
        for part, seconds in self.cpu_s.items():
            found[f"cpu_us_per_token:{part}"] = seconds / self.tokens * 1e6
        return found


def milliseconds(seconds: float | None) -> float | None:
    """Return seconds as milliseconds; nothing stays nothing."""
    return None if seconds is None else seconds * 1000
