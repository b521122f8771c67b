"""`ingle completion`: make a shell complete verbs, options, models and requests."""

import sys

from ingle.cli.grammar import EVERYWHERE, Given, Usage, Verb

MODELS = ("show", "load", "unload")
REQUESTS = ("attach", "cancel")

_BASH = """\
_ingle() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="${{COMP_WORDS[1]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{verbs}"
    elif [ "$before" = -m ] || [ "$before" = --model ]; then
        words="$(ingle models --names 2>/dev/null)"
    elif [ "$before" = -f ] || [ "$before" = --file ] || [ "$before" = --socket ]; then
        compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return
    elif [ "${{word:0:1}}" = - ]; then
        case "$verb" in
{options}
        esac
    else
        case "$verb" in
            {models}) words="$(ingle models --names 2>/dev/null)" ;;
            {requests}) words="$(ingle requests --names 2>/dev/null)" ;;
            help) words="{verbs}" ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -F _ingle ingle
"""

_ZSH = """\
#compdef ingle
autoload -U +X bashcompinit && bashcompinit
{bash}"""


def run(given: Given) -> int:
    """Print the script for a shell."""
    shell = given.words[0]
    if shell not in _SCRIPTS:
        raise Usage(f"no completion for {shell!r}", f"there is one for {', '.join(_SCRIPTS)}")
    sys.stdout.write(_SCRIPTS[shell]())
    return 0


def _verbs() -> list[Verb]:
    from ingle.cli import VERBS, verb

    return [verb(name) for name in VERBS]


def _bash() -> str:
    lines = []
    for verb in _verbs():
        names = " ".join(name for option in (*verb.options, *EVERYWHERE) for name in option.names)
        lines.append(f'            {verb.name}) words="{names}" ;;')
    return _BASH.format(
        verbs=" ".join(verb.name for verb in _verbs()),
        options="\n".join(lines),
        models="|".join(MODELS),
        requests="|".join(REQUESTS),
    )


def _zsh() -> str:
    return _ZSH.format(bash=_bash().replace("compopt -o filenames; ", ""))


def _fish() -> str:
    lines = ["complete -c ingle -f"]
    for verb in _verbs():
        lines.append(f"complete -c ingle -n __fish_use_subcommand -a {verb.name} -d {_quoted(verb.summary)}")
        here = f"-n '__fish_seen_subcommand_from {verb.name}'"
        for option in (*verb.options, *EVERYWHERE):
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            values = {"MODEL": " -x -a '(ingle models --names 2>/dev/null)'", "": ""}.get(option.value, " -r")
            files = " -F" if option.value in ("FILE", "PATH") else ""
            lines.append(f"complete -c ingle {here} {names}{values}{files} -d {_quoted(option.help)}")
        if verb.name in MODELS + REQUESTS:
            list_them = "models" if verb.name in MODELS else "requests"
            lines.append(f"complete -c ingle {here} -a '(ingle {list_them} --names 2>/dev/null)'")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}

VERB = Verb(
    "completion",
    "print a script that makes a shell complete ingle's command lines",
    run,
    """Prints a script for bash, zsh or fish that completes verbs and options, and, from the running
    daemon, names of models and ids of requests.
    """,
    "bash|zsh|fish",
    least=1,
    most=1,
    examples=(
        ('eval "$(ingle completion bash)"', "In ~/.bashrc; the same with zsh in ~/.zshrc."),
        ("ingle completion fish > ~/.config/fish/completions/ingle.fish", "For fish."),
    ),
)
