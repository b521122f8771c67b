"""The model card, with the figures of an evaluation. Pure."""

from typing import Final

from bench.ember.examples import splits
from bench.ember.model_sizes import SIZES, parameters

CARD: Final = """\
---
license: apache-2.0
library_name: vllm
pipeline_tag: text-generation
language: en
---
# ember

The model that comes with ingle, so that a fresh installation answers at once, without any download. It turns a short
request in plain English into one shell command (files, text, archives, permissions, processes, git), answers a few
questions about ingle, and says so when it does not know something.

**It is a demonstration, not a product.** It has {million} million parameters and has never read anything but sentences
that a script of this project made. Read its commands before you run them; they may be wrong, and some delete files.

| | |
|---|---|
| architecture | Qwen3: {layers} layers, {hidden} wide, {heads} heads ({kv_heads} of keys and values), tied embeddings |
| parameters | {million} million, stored as bfloat16; runs in float32 on the CPU, and on a GPU |
| vocabulary | {words} tokens, byte-level BPE: words of the templates, and single bytes for everything else |
| context | 32,768 positions may be used; trained on fewer than 300 tokens |
| size | {size} |
| data | made by `bench/ember/`: {intents} intents, {templates} templates ({held} of them held out), no text of others |
| license | Apache-2.0, data and model alike |

## Figures

Greedy decoding through vLLM, float32, on a CPU. *Held out* means that neither the template nor any argument was seen
in training (each word of such a template was, in another one); typing errors are in it too; {topics} of the topics
that ember should not know were never seen at all. The *fresh* requests have templates that were written after the
training, arguments that were never trained on, and topics that no training has; they were asked once, and nothing was
changed after it. The *handwritten* requests were written freely before the first template, and none was left out. The
sandbox is a folder with known files, in which the answer and the reference are both run; the result is right when
output and folder are the same.

{figures}

`make ember-eval` prints these figures again. The held-out test was looked at after each of four trainings, and the last
of them is shipped: 2,000 steps; 3,800 steps; 1,000 more with hidden words; the same with JSON as schemas write it. They
had 78.5, 79.7, 80.8 and 81.0 % of answers equal to the reference. Hidden words were thought of after failures had been
seen; templates, arguments, split and handwritten requests were not changed. So the figure is a little too kind, and a
point or two is chance in any case: 600 requests of few templates err by at least 1.6 points. There is a price: of what
it should not know it invented a command for 5.5, 10.0, 12.0 and 11.0 %. Of the handwritten requests 86.9, 89.3, 86.9
and 88.1 % were equal.

The fresh test exists for that reason: no choice was made by it. But who wrote it had read the learnt templates, and its
sentences are plain ("I want ...", "tell me ..."), so it is easier than the held-out test. People will do worse than
either figure.

## Ten good answers, picked at random

{good}

## Ten bad answers, picked at random

{bad}

## What it cannot do

- Anything but short English requests for one command. It knows nothing of the world and does not calculate.
- Requests in words that are far from its templates: it then answers with a near command that is wrong, or that it does
  not know.
- Names with blanks, quotes in words, several wishes in one sentence, questions about what was said before.
- Other tools than the common ones of Linux, and other options than those of its templates.
- It never runs anything, and has not seen your files.

## Made by

`nice python -m bench.ember.train --out bench/ember/out` (`make ember`) in the repository, seeded: 4,800 steps in two
parts. They were run one by one (the second with `--begin`; the first before JSON was written without blanks), and took
33 and 6 minutes on two cores that had other work too. So one run of `make ember` gives an equally made model, but not
these very weights. A step takes 0.65 to 0.73 s of processor time, all of them 52 to 58 minutes: 26 to 29 minutes on two
cores that do nothing else. That is computed; a whole run in one piece on such a machine was not measured.
`bench/ember/README.md` says more, and how to make a bigger one.
"""


def card(figures: str, good: str, bad: str, sizes: dict[str, int], words: int) -> str:
    """Return the text of the card."""
    size = SIZES["small"]
    learn = [split for split in splits() if split.learn]
    total = sum(sizes.values()) / 1e6
    return CARD.format(
        figures=figures,
        good=good,
        bad=bad,
        million=f"{parameters(size, words) / 1e6:.2f}",
        words=f"{words:,}",
        size=f"{total:.1f} MB in all",
        intents=len(learn),
        templates=f"{sum(len(one.learn) + len(one.hold) for one in splits()):,}",
        held=sum(len(one.hold) for one in splits()),
        topics=len(splits()) - len(learn),
        **size,
    )
