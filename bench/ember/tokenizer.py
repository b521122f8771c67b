"""The tokenizer: a byte-level BPE whose words are those of the templates; everything else goes byte by byte.

That makes copying easy: an argument that was never seen is a row of single letters, equal in the request and in the
command, whatever stands before it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from bench.ember.babble import sentences
from bench.ember.examples import JSON_ENDS, Example, splits, training
from bench.ember.phrasing import ENDS, NOUNS, ORDERS, PERIODS, QUESTIONS, UNITS
from bench.ember.slots import HERE, HOME, KINDS, ORDINALS, SPELLED
from bench.ember.templates import FOLDER as TEMPLATES
from bench.ember.templates import Choice, Pattern

SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS: Final = SPECIALS[2]
SAMPLE, MINIMUM = 60_000, 3
ALWAYS: Final = (
    "user", "assistant", "system", "json", "command", "\u0120json", "\u0120true", "\u0120false", "\u0120null",
    "\u010a", '{"', '":', '"}', '\u0120"', '","',
)  # fmt: skip
CHAT_TEMPLATE: Final = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


def byte_letters() -> list[str]:
    """Return the letter for each byte, as GPT-2 and every byte-level BPE since writes them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    odd = [byte for byte in range(256) if byte not in letters]
    letters.update({byte: chr(256 + index) for index, byte in enumerate(odd)})
    return [letters[byte] for byte in range(256)]


def words(examples: Iterable[Example]) -> Counter[str]:
    """Count the pieces of text between arguments, as the pre-tokenizer cuts them."""
    from tokenizers.pre_tokenizers import ByteLevel

    cutter = ByteLevel(add_prefix_space=False, use_regex=True)
    found: Counter[str] = Counter()
    for one in examples:
        answer = one.answer
        for value in sorted(set(one.arguments.values()), key=len, reverse=True):
            answer = answer.replace(value, "\0")
        texts = [text for text, argument in one.pieces if not argument] + answer.split("\0")
        for text in texts:
            found.update(piece for piece, _ in cutter.pre_tokenize_str(text))
    return found


def plain_words() -> set[str]:
    """Return the words of templates, phrases and answers, in small letters and without typing errors."""
    texts = [template.text for split in splits() for template in split.learn]
    texts += (TEMPLATES / "macros.txt").read_text().splitlines()
    texts += [*ORDERS, *NOUNS, *QUESTIONS, *ENDS, *SPELLED, *ORDINALS, *HERE, *HOME, *JSON_ENDS]
    texts += [text for texts in (*UNITS.values(), *PERIODS.values(), *KINDS.values()) for text in texts]
    for split in splits():
        texts.append(split.intent.command or "")
        texts += [text for text in _literals(split.intent.reply or ()) if split.learn]
    return {found for text in texts for found in re.findall(r"[a-z]+", text.lower())}


def _literals(pattern: Pattern) -> Iterator[str]:
    for item in pattern:
        if isinstance(item, str):
            yield item
        elif isinstance(item, Choice):
            for way in item.ways:
                yield from _literals(way)


def vocabulary() -> dict[str, int]:
    """Return the ids of all tokens but the special ones: bytes first, then words."""
    letters = byte_letters()
    plain = plain_words()
    found = words(islice(training(), SAMPLE))
    found.update(words(islice(sentences(), 3000)))
    plain |= {match for one in islice(sentences(), 300) for match in re.findall("[a-z]+", one.request.lower())}
    found.update(dict.fromkeys(ALWAYS, SAMPLE))
    plain |= {"user", "assistant", "system", "command", "json", "true", "false", "null"}
    kept = set()
    for word, count in found.items():
        bare = word.lstrip(letters[32])
        if count < MINIMUM or len(word) < 2 or any(letter.isdigit() for letter in word):
            continue
        if not bare.isascii() or (bare.isalpha() and bare.lower() not in plain):
            continue
        if bare.isupper() and len(bare) > 1 and count < 10 * MINIMUM:
            continue  # who shouts, shouts letter by letter
        kept.add(word)
    return {token: at for at, token in enumerate([*letters, *sorted(kept)])}


def tokenizer_json(vocab: dict[str, int]) -> dict[str, Any]:
    """Return what stands in tokenizer.json."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": len(vocab) + at, "content": token, **flags} for at, token in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # a word of the vocabulary is one token; every other one goes byte by byte
            "vocab": vocab,
            "merges": [],
        },
    }


def tokenizer_config(context: int) -> dict[str, Any]:
    """Return what stands in tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "bos_token": None,
        "eos_token": EOS,
        "pad_token": SPECIALS[0],
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def load(settings: dict[str, Any]) -> Any:
    """Return a fast tokenizer made of what stands in tokenizer.json."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(settings))
