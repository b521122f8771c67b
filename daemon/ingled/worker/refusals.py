"""Why vLLM refuses launch options: in one sentence that names the option, its value and what is allowed.

Without importing vLLM. What is not known here is told in vLLM's own words.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ingled.link import FIELDS
from ingled.worker.vllm_errors import one_line

OURS = {theirs: ours for ours, theirs in FIELDS.items()}
ARGUMENTS = {"cache_dtype": "kv_cache_dtype"}
"""Fields of vLLM's configurations and the arguments that set them, where they have other names."""
BOUNDS = {"greater_than_equal": "at least {ge}", "greater_than": "more than {gt}"}
BOUNDS |= {"less_than_equal": "at most {le}", "less_than": "less than {lt}"}
KINDS = {"int": "a whole number", "bool": "true or false", "float": "a number", "string": "a text"}
SENTENCES = [
    (
        r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \(max_position_embeddings="
        r"(\d+)",
        "{context} is {0}: expected at most {1}, for which the model was made",
    ),
    (r"max_model_len must be a positive integer, got \w+: (\S+?)\.", "{context} is {0}: expected at least 1"),
    (
        r"Total number of attention heads \((\d+)\) must be divisible by tensor parallel size \((\d+)\)",
        "{tensor_parallel} is {1}: expected a number by which the model's {0} attention heads can be divided",
    ),
    (
        r"World size \((\d+)\) is larger than the number of available GPUs \((\d+)\)",
        "{tensor_parallel} is {0}: expected at most {1}, the number of GPUs here",
    ),
    (r"Unknown quantization method: (.*?)\. Must be one of \[(.*)\]", "{quantization} is '{0}': expected {1}"),
    (
        r"(\S+) is not supported for quantization method (\S+?)\. Supported dtypes: \[(.*)\]",
        "{quantization} is '{1}': expected dtype {2} with it, and it is {0}",
    ),
    (
        r"Cannot find the config file for (\S+)",
        "{quantization} is '{0}': expected weights that were quantized like that, and config.json says nothing of it",
    ),
    (
        r"max_num_batched_tokens \((\d+)\) must be greater than or equal to max_num_seqs \((\d+)\)",
        "{max_sequences} is {1}: expected at most max_num_batched_tokens, which is {0}",
    ),
]
"""What vLLM says (0.32) and what we say; options by our names."""


def refusal(error: BaseException, options: Mapping[str, Any]) -> str:
    """Return why vLLM does not take these launch options, which have its own names."""
    details = getattr(error, "errors", None)
    if callable(details) and (found := _fields(details(), options)):  # pydantic.ValidationError
        return found
    text = one_line(error)
    for pattern, sentence in SENTENCES:
        if match := re.search(pattern, text):
            said = (_listed(group) for group in match.groups())
            return sentence.format(*said, **{ours: _name(theirs) for ours, theirs in FIELDS.items()})
    return text


def _fields(details: Iterable[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """Return what is wrong with the values of fields, those that somebody has said before what follows from them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for detail in details:
        if not detail["loc"]:
            return ""  # of more than one
        argument = str(detail["loc"][0])
        found.setdefault(ARGUMENTS.get(argument, argument), []).append(detail)
    said = {name: errors for name, errors in found.items() if name in options} or found
    return "; ".join(_field(name, errors) for name, errors in said.items())


def _field(name: str, errors: list[Mapping[str, Any]]) -> str:
    """Return what is wrong with one; of several kinds that it may be, a choice says most."""
    detail = next((one for one in errors if one["type"] in ("literal_error", "enum")), errors[0])
    kind, context = str(detail["type"]), detail.get("ctx", {})
    if kind in ("literal_error", "enum"):
        expected = str(context["expected"])
    elif kind in BOUNDS:
        expected = BOUNDS[kind].format(**context)
    else:
        said_kind, _, how = kind.partition("_")
        expected = KINDS.get(said_kind, "") if how in ("type", "parsing", "from_float") else ""
    rule = f"expected {expected}" if expected else _lower(str(detail["msg"]).removeprefix("Value error, "))
    return f"{_name(name)} is {detail['input']!r}: {rule}"


def _listed(text: str) -> str:
    """Return the words of a Python list for people."""
    words = [word.strip(" '\"").removeprefix("torch.") for word in text.split(",")]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _name(argument: str) -> str:
    """Return how a profile calls an argument; it may stand there under vLLM's name, too."""
    ours = OURS.get(argument, argument)
    return ours if ours == argument else f"{ours} ({argument})"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
