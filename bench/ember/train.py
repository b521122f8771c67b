"""Train `ember`: one command, a seed, about 23 minutes of two quiet cores.

nice python -m bench.ember.train --out bench/ember/out                      the model that comes with ingle
python -m bench.ember.train --out OUT --size large --steps 30000 --device cuda     a bigger one, on a GPU
python -m bench.ember.train --out OUT --begin FOLDER          the second part only, on what the first one has written
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch  # noqa: TID253 - a script of its own
import torch.nn.functional as F  # noqa: TID253

from bench.ember.babble import sentences
from bench.ember.examples import JSON_ENDS, SEED, Example, training
from bench.ember.model import Ember, config, read, save
from bench.ember.model_sizes import CONTEXT, SIZES
from bench.ember.tokenizer import SPECIALS, load, tokenizer_config, tokenizer_json, vocabulary

BATCH_TOKENS: Final = 3072
SAVE_EVERY: Final = 250
POOL: Final = 4096
"""Examples that are sorted by length together, so that little is padding."""
PROMPT_WEIGHT: Final = 0.1
HIDDEN_REQUESTS, HIDDEN_WORDS = 0.5, 0.2
"""The share of single requests in which words are hidden, and of their words: any rest of a sentence must do."""
SECOND_STEPS, SECOND_RATE = 5 / 19, 3 / 8
"""Steps and rate of the second part, in which words are hidden, as shares of those of the first."""
SYSTEMS: Final = ("You are a helpful assistant.", "You turn requests into shell commands.", "Be brief.", "be nice")


@dataclass(frozen=True)
class Row:
    """Tokens, and how much each counts as a target."""

    ids: list[int]
    weights: list[float]


class Rows:
    """Turns examples into rows of tokens: single requests, conversations, JSON answers, plain text."""

    def __init__(self, tokenizer: Any, seed: int, *, hide: bool) -> None:
        self.tokenizer = tokenizer
        self.hides = hide
        self.hidden: int = tokenizer.token_to_id(SPECIALS[0])
        self.dice = random.Random(f"{seed} rows")
        self.examples = training(seed)
        self.texts = sentences()

    def __iter__(self) -> Iterator[Row]:
        while True:
            way = self.dice.random()
            if way < 0.01:
                ids = self.tokenizer.encode(next(self.texts).request).ids
                yield Row(ids, [0.0, *([PROMPT_WEIGHT] * (len(ids) - 1))])
            elif way < 0.11:
                yield self.conversation()
            else:
                yield self.turn(next(self.examples), 0.0)

    def conversation(self) -> Row:
        """Return several requests in a row, each prompt of which counts a little."""
        found = Row([], [])
        if self.dice.random() < 0.3:
            found = self.part("system", self.dice.choice(SYSTEMS), 0.0)
        for _ in range(self.dice.choice((1, 2, 3))):
            turn = self.turn(next(self.examples), PROMPT_WEIGHT)
            found = Row(found.ids + turn.ids, found.weights + turn.weights)
        return found

    def turn(self, one: Example, prompt: float) -> Row:
        """Return a request and its answer; the prompt counts as said."""
        request, answer = one.request, one.answer
        if self.dice.random() < 0.03:
            request = request.rstrip("?.! ") + self.dice.choice(JSON_ENDS)
            answer = json.dumps({"command": answer if one.known else None}, separators=(",", ":"))  # as schemas do
        asked, told = self.part("user", request, prompt), self.part("assistant", answer, 1.0)
        if self.hides and not prompt and request == one.request and self.dice.random() < HIDDEN_REQUESTS:
            asked = self.hide(asked, one)
        return Row(asked.ids + told.ids, asked.weights + told.weights)

    def hide(self, asked: Row, one: Example) -> Row:
        """Return the request with some words hidden; arguments stay."""
        found: list[bool] = []
        for text, argument in one.pieces:
            found += [not argument] * len(text)
        encoded = self.tokenizer.encode(f"{one.request}<|im_end|>")
        ids = list(asked.ids)
        begin = ids.index(self.tokenizer.token_to_id("\u010a")) + 1
        for at, (first, end) in enumerate(encoded.offsets[:-1]):
            assert ids[begin + at] == encoded.ids[at]
            if end - first > 1 and all(found[first:end]) and self.dice.random() < HIDDEN_WORDS:
                ids[begin + at] = self.hidden
        return Row(ids, asked.weights)

    def part(self, role: str, text: str, weight: float) -> Row:
        """Return one message as the chat template writes it; what the role adds before the text does not count."""
        head = self.tokenizer.encode(f"<|im_start|>{role}\n").ids
        body = self.tokenizer.encode(f"{text}<|im_end|>").ids
        end = self.tokenizer.encode("\n").ids
        light = min(weight, PROMPT_WEIGHT)
        if role == "assistant" and weight and self.dice.random() < 0.8:
            light = 0.0
        return Row(head + body + end, [light] * len(head) + [weight] * len(body) + [light] * len(end))


def batches(rows: Rows, tokens: int, pad: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield ids and weights of batches of about `tokens` places."""
    source = iter(rows)
    while True:
        pool = sorted((next(source) for _ in range(POOL)), key=lambda row: len(row.ids))
        groups: list[list[Row]] = [[]]
        for row in pool:
            if (len(groups[-1]) + 1) * len(row.ids) > tokens and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        rows.dice.shuffle(groups)
        for group in groups:
            length = max(len(row.ids) for row in group)
            ids = torch.tensor([row.ids + [pad] * (length - len(row.ids)) for row in group])
            weights = torch.tensor([row.weights + [0.0] * (length - len(row.weights)) for row in group])
            yield ids, weights


def loss_of(model: Ember, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of the tokens that count."""
    hidden = model(ids[:, :-1])
    counts = weights[:, 1:]
    places = counts > 0
    losses = F.cross_entropy(model.logits(hidden[places]), ids[:, 1:][places], reduction="none")
    return (losses * counts[places]).sum() / counts.sum()


def optimizers(model: Ember, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside, AdamW for the words and the norms."""
    inside = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    rest = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inside, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(arguments: argparse.Namespace) -> None:
    """Make tokenizer and model, train in two parts, and write the folder."""
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    vocab = vocabulary()
    settings = tokenizer_json(vocab)
    pad, _, eos = (len(vocab) + at for at in range(len(SPECIALS)))
    words = len(vocab) + len(SPECIALS)
    size = SIZES[arguments.size]
    model = Ember(size, words).to(arguments.device)
    print(f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.2f} M parameters, {words} words", flush=True)
    texts = texts_beside(words, size, settings, eos, pad)
    for hide in (False, True):
        steps, rate = arguments.steps, arguments.rate
        if hide:
            steps, rate = max(1, round(steps * SECOND_STEPS)), rate * SECOND_RATE
            read(model, arguments.begin or arguments.out)
        elif arguments.begin:
            continue
        rows = Rows(load(settings), arguments.seed, hide=hide)
        run(model, batches(rows, arguments.batch, pad), steps, rate, lambda: save(model, arguments.out, texts))


def run(model: Ember, source: Iterator[tuple[torch.Tensor, torch.Tensor]], steps: int, rate: float,
        keep: Callable[[], None]) -> None:  # fmt: skip
    """Train one part: the rate rises for a moment, and falls to nearly nothing."""
    warm = max(20, steps // 50)
    rules = optimizers(model, rate)
    device = model.embed_tokens.weight.device
    begin, seen, recent = time.monotonic(), 0, 0.0
    for step in range(1, steps + 1):
        ids, weights = (part.to(device) for part in next(source))
        share = min(step / warm, 1.0) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = loss_of(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for rule in rules:
            for group in rule.param_groups:
                group["lr"] = rate * share
            rule.step()
            rule.zero_grad()
        seen += ids.numel()
        recent = loss.item() if step == 1 else 0.98 * recent + 0.02 * loss.item()
        if step % 50 == 0 or step == steps:
            spent = time.monotonic() - begin
            print(f"step {step}  loss {recent:.4f}  {seen / spent:.0f} tokens/s  {spent:.0f} s", flush=True)
        if step % SAVE_EVERY == 0 or step == steps:
            keep()


def texts_beside(words: int, size: dict[str, int], settings: dict[str, Any], eos: int, pad: int) -> dict[str, Any]:
    """Return the JSON files that stand beside the weights, by name."""
    generation = {"eos_token_id": [eos, pad], "pad_token_id": pad, "temperature": 0.0}  # a command is no place for luck
    return {
        "config.json": config(size, words, eos, pad),
        "generation_config.json": generation,
        "tokenizer.json": settings,
        "tokenizer_config.json": tokenizer_config(CONTEXT),
    }


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--begin", type=Path, help="only the second part, with the weights in this folder")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=3800, help="of the first part; the second takes a quarter more")
    parser.add_argument("--batch", type=int, default=BATCH_TOKENS, help="places in a batch")
    parser.add_argument("--rate", type=float, default=0.004)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
