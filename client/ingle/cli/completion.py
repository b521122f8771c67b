"""`ingle completion`: make a shell complete verbs, options, models and requests."""

from ingle.cli import VERBS
from ingle.cli.events import TOPICS
from ingle.cli.grammar import Given, Usage, Verb
from ingle.cli.manual import TOPICS as PAGES
from ingle.cli.output import put

MODELS = ("show", "load", "plan", "unload", "sleep", "wake", "pin", "unpin", "want")
REQUESTS = ("attach", "cancel")
FILES = "verify"
"""The verb whose argument is a file."""

# Names come from the daemon's configuration, and nothing in them may be expanded: they are compared in a loop, and
# what is put on the command line is quoted. `compgen -W`, for one, would run a name such as `$(reboot)`.

_BASH = """\
_ingle() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" word="" before="" verb="" cut="" name quoted IFS=$' \t\n'
    local -a words=() names=()
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local last=$(( ${{#words[@]}} - 1 ))
    (( last > 0 )) || return
    word="${{words[last]}}" before="${{words[last-1]}}" verb="${{words[1]}}"
    if (( last == 1 )); then
        names=({verbs})
    elif [[ $before == -m || $before == --model ]]; then
        mapfile -t names < <(ingle models --names 2>/dev/null)
    elif [[ $before == -f || $before == --file || $before == --socket || $before == --record || $before == --key
        || ( $verb == {files} && $word != -* ) ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")
        return
    elif [[ $word == -* ]]; then
        case "$verb" in
{options}
        esac
    else
        case "$verb" in
            {models}) mapfile -t names < <(ingle models --names 2>/dev/null) ;;
            {requests}) mapfile -t names < <(ingle requests --names 2>/dev/null) ;;
            help) names=({verbs} {pages}) ;;
            events) names=({topics}) ;;
            completion) names=(bash zsh fish) ;;
            hooks)
                if (( last == 2 )); then
                    names=(test trace)
                elif (( last == 3 )) && [[ ${{words[2]}} == test ]]; then
                    mapfile -t names < <(ingle hooks --names 2>/dev/null)
                fi ;;
            config)
                if (( last == 2 )); then
                    names=(show check)
                elif (( last == 3 )) && [[ ${{words[2]}} == check ]]; then
                    compopt -o filenames
                    mapfile -t COMPREPLY < <(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")
                    return
                fi ;;
            hook)
                names=(run)
                if (( last > 2 )); then
                    compopt -o filenames
                    mapfile -t COMPREPLY < <(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")
                    return
                fi ;;
        esac
    fi
    # Bash takes a colon for the end of a word, and replaces only what is behind it.
    [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && cut="${{word%"${{word##*:}}"}}"
    COMPREPLY=()
    for name in "${{names[@]}}"; do
        printf -v quoted %q "$name"
        if [[ -n $name && ( $name == "$word"* || $quoted == "$word"* ) ]]; then
            COMPREPLY+=("${{quoted#"$cut"}}")
        fi
    done
}}
complete -F _ingle ingle
"""

_ZSH = """\
#compdef ingle
_ingle() {{
    local before="${{words[CURRENT-1]}}" verb="${{words[2]}}"
    local -a names
    if (( CURRENT == 2 )); then
        names=({verbs})
    elif [[ $before == -m || $before == --model ]]; then
        names=("${{(@f)$(ingle models --names 2>/dev/null)}}")
    elif [[ $before == -f || $before == --file || $before == --socket || $before == --record || $before == --key
        || ( $verb == {files} && $PREFIX != -* ) ]]; then
        _files
        return
    elif [[ $PREFIX == -* ]]; then
        case "$verb" in
{options}
        esac
    else
        case "$verb" in
            {models}) names=("${{(@f)$(ingle models --names 2>/dev/null)}}") ;;
            {requests}) names=("${{(@f)$(ingle requests --names 2>/dev/null)}}") ;;
            help) names=({verbs} {pages}) ;;
            events) names=({topics}) ;;
            completion) names=(bash zsh fish) ;;
            hooks)
                if (( CURRENT == 3 )); then
                    names=(test trace)
                elif (( CURRENT == 4 )) && [[ ${{words[3]}} == test ]]; then
                    names=("${{(@f)$(ingle hooks --names 2>/dev/null)}}")
                fi ;;
            config)
                if (( CURRENT == 3 )); then
                    names=(show check)
                elif (( CURRENT == 4 )) && [[ ${{words[3]}} == check ]]; then
                    _files
                    return
                fi ;;
            hook)
                if (( CURRENT > 3 )); then
                    _files
                    return
                fi
                names=(run) ;;
        esac
    fi
    compadd -- "${{(@)names:#}}"
}}
if [[ "${{funcstack[1]}}" == _ingle ]]; then  # this file is in $fpath, and zsh has loaded it to complete
    _ingle "$@"
else
    (( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
    compdef _ingle ingle
fi
"""


def run(given: Given) -> int:
    """Print the script for a shell."""
    shell = given.words[0]
    if shell not in _SCRIPTS:
        raise Usage(f"no completion for {shell!r}", f"there is one for {', '.join(_SCRIPTS)}")
    put(_SCRIPTS[shell]())
    return 0


def _verbs() -> list[Verb]:
    from ingle.cli import verb

    return [verb(name) for name in VERBS]


def _filled(script: str) -> str:
    lines = []
    for verb in _verbs():
        names = " ".join(name for option in verb.options for name in option.names)
        lines.append(f"            {verb.name}) names=({names}) ;;")
    return script.format(
        verbs=" ".join(verb.name for verb in _verbs()),
        options="\n".join(lines),
        models="|".join(MODELS),
        requests="|".join(REQUESTS),
        files=FILES,
        pages=" ".join(PAGES),
        topics=" ".join(TOPICS),
    )


def _bash() -> str:
    return _filled(_BASH)


def _zsh() -> str:
    return _filled(_ZSH)


def _fish() -> str:
    lines = ["complete -c ingle -f"]
    for verb in _verbs():
        lines.append(f"complete -c ingle -n __fish_use_subcommand -a {verb.name} -d {_quoted(VERBS[verb.name])}")
        here = f"-n '__fish_seen_subcommand_from {verb.name}'"
        for option in verb.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            values = {"MODEL": " -x -a '(ingle models --names 2>/dev/null)'", "": ""}.get(option.value, " -r")
            files = " -F" if option.value in ("FILE", "PATH") else ""
            lines.append(f"complete -c ingle {here} {names}{values}{files} -d {_quoted(option.help)}")
        if verb.name == FILES:
            lines.append(f"complete -c ingle {here} -F")
        if verb.name in MODELS + REQUESTS:
            list_them = "models" if verb.name in MODELS else "requests"
            lines.append(f"complete -c ingle {here} -a '(ingle {list_them} --names 2>/dev/null)'")
    seen = "complete -c ingle -n '__fish_seen_subcommand_from"
    lines.append(f"{seen} completion' -a 'bash zsh fish'")
    lines.append(f"{seen} events' -a '{' '.join(TOPICS)}'")
    lines.append(f"{seen} help' -a '{' '.join((*VERBS, *PAGES))}'")
    lines.append(f"{seen} hooks; and not __fish_seen_subcommand_from test trace' -a 'test trace'")
    lines.append(f"{seen} hooks; and __fish_seen_subcommand_from test' -a '(ingle hooks --names 2>/dev/null)'")
    lines.append(f"{seen} config; and not __fish_seen_subcommand_from show check' -a 'show check'")
    lines.append(f"{seen} config; and __fish_seen_subcommand_from check' -F")
    lines.append(f"{seen} hook; and not __fish_seen_subcommand_from run' -a run")
    lines.append(f"{seen} hook; and __fish_seen_subcommand_from run' -F")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}

VERB = Verb(
    "completion",
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
    alone=True,
)
