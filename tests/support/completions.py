"""Completions for bash, zsh and fish from the command line.

They know the words by themselves: a shell that started pgmlite at every press of a key would have
the user wait for Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from importlib.resources import files

from tests.support.command_line import Parameter, Verb, command, verbs

NOTE = "Written by tests/generate.py from the command line: do not edit."


class Offer(Enum):
    """What is offered for a value, beside words that are typed as they stand."""

    NOTHING = auto()
    FILES = auto()
    FOLDERS = auto()
    INTERFACES = auto()
    COMMANDS = auto()


OFFERS = {
    "CAPTURE": Offer.FILES,
    "CMD": Offer.COMMANDS,
    "DEVICE": Offer.FILES,
    "DIR": Offer.FILES,
    "DIR/": Offer.FILES,
    "FILE": Offer.FILES,
    "FOLDER": Offer.FOLDERS,
    "IF": Offer.INTERFACES,
    "MANIFEST": Offer.FILES,
    "PATH": Offer.FILES,
    "PLAN": Offer.FILES,
}
"""Alternatives of values for which something is offered; of a name such as ``K.pem``, files are."""


def offer(parameter: Parameter) -> Offer:
    """Return what is offered for the value of an option or an argument."""
    every = parameter.alternatives
    kinds = {Offer.FILES if "." in one else OFFERS.get(one, Offer.NOTHING) for one in every}
    # Who is offered files finds folders among them.
    return min(kinds - {Offer.NOTHING} or kinds, key=lambda kind: kind.value)


def words(parameter: Parameter) -> list[str]:
    """Return what is offered as it stands."""
    if "PLAN" not in parameter.alternatives:
        return parameter.words
    names = (one.name for one in files("pgmlite.sim.plans").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def _names(options: Iterable[Parameter]) -> list[str]:
    return [name for option in options for name in option.names]


# bash

BASH = r"""# Completion of pgmlite for bash.
# %(note)s

_pgmlite() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb='' at
    # --option=value comes as three words.
    if [[ $word == = ]]; then
        word=''
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((at = 1; at < COMP_CWORD; at++)); do
        if [[ ${COMP_WORDS[at]} != -* ]]; then
            verb=${COMP_WORDS[at]}
            break
        fi
    done
    COMPREPLY=()
    case $verb in
%(verbs)s
    esac
}

complete -F _pgmlite pgmlite
"""

BASH_OFFERS = {
    Offer.NOTHING: "",
    # Readline's own: it knows how names are quoted, whatever is in them.
    Offer.FILES: "compopt -o default",
    Offer.FOLDERS: "compopt -o dirnames",
    Offer.INTERFACES: 'COMPREPLY=($(cd /sys/class/net && compgen -f -- "$word"))',
    Offer.COMMANDS: 'COMPREPLY=($(compgen -c -- "$word"))',
}


def _bash_words(offered: list[str]) -> str:
    return f"COMPREPLY=($(compgen -W '{' '.join(offered)}' -- \"$word\"))"


def _bash_action(parameter: Parameter) -> list[str]:
    lines = [BASH_OFFERS[offer(parameter)]] if BASH_OFFERS[offer(parameter)] else []
    return [*lines, _bash_words(words(parameter))] if words(parameter) else lines


def _bash_verb(verb: Verb) -> Iterator[str]:
    """Yield what is offered behind a verb: after an option its value, else options or files."""
    yield f"        {verb.name})"
    users: dict[tuple[str, ...], list[str]] = {}
    for option in verb.options:
        if option.value:
            users.setdefault(tuple(_bash_action(option)), []).extend(option.names)
    if users:
        yield "            case $before in"
        for action, names in users.items():
            yield f"                {' | '.join(names)})"
            yield from (f"                    {line}" for line in (*action, "return ;;"))
        yield "            esac"
    yield "            if [[ $word == -* ]]; then"
    yield f"                {_bash_words(_names(verb.options))}"
    for argument in verb.arguments:
        if action := tuple(_bash_action(argument)):
            yield "            else"
            yield from (f"                {line}" for line in action)
    yield "            fi"
    yield "            ;;"


def bash() -> str:
    """Return the completion for bash."""
    known = verbs()
    first = [verb.name for verb in known] + _names(command().options)
    lines = ["        '')", f"            {_bash_words(first)}", "            ;;"]
    lines += [line for verb in known for line in _bash_verb(verb)]
    return BASH % {"note": NOTE, "verbs": "\n".join(lines)}


# zsh

ZSH = """#compdef pgmlite
# Completion of pgmlite for zsh.
# %(note)s

_pgmlite() {
    local context state state_descr line
    typeset -A opt_args
    _arguments -C -S \\
%(options)s \\
        '1: :_pgmlite_verbs' \\
        '*:: :->rest'
    [[ $state == rest ]] || return
    case $words[1] in
%(verbs)s
    esac
}

_pgmlite_verbs() {
    local -a verbs=(
%(summaries)s
    )
    _describe verb verbs
}

_pgmlite "$@"
"""

ZSH_OFFERS = {
    Offer.NOTHING: " ",
    # The slash of a folder stays when the line ends there: `-o DIR/` is not `-o DIR`.
    Offer.FILES: '_files -r ""',
    Offer.FOLDERS: "_files -/",
    Offer.INTERFACES: "_net_interfaces",
    Offer.COMMANDS: "_command_names -e",
}


def _first(sentences: str) -> str:
    """Return what a menu says of an option: its first sentence."""
    return sentences.partition(". ")[0].rstrip(".").replace("`", "")


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_value(parameter: Parameter) -> str:
    shown = parameter.value.replace(":", "\\:")
    offered = words(parameter)
    if not offered:
        return f":{shown}:{ZSH_OFFERS[offer(parameter)]}"
    if offer(parameter) is Offer.NOTHING:
        return f":{shown}:({' '.join(offered)})"
    some = " ".join(offered)
    return f':{shown}: _alternative "words:word:({some})" "files:file:_files"'


def _zsh_option(option: Parameter) -> str:
    said = _first(option.help).replace("[", "\\[").replace("]", "\\]")
    value = _zsh_value(option) if option.value else ""
    # A long one may have its value behind a =, too.
    names = [f"{name}=" if value and name.startswith("--") else name for name in option.names]
    spelt = f"{{{','.join(names)}}}" if len(names) > 1 else names[0]
    others = "'*'" if option.repeats else f"'({' '.join(option.names)})'"
    return f"{others}{spelt}{_zsh_quoted(f'[{said}]{value}')}"


def zsh() -> str:
    """Return the completion for zsh."""
    known = verbs()
    cases = []
    for verb in known:
        given = [_zsh_option(option) for option in verb.options]
        given += [_zsh_quoted(_zsh_value(argument)) for argument in verb.arguments]
        lines = " \\\n                ".join(given)
        cases += [f"        {verb.name})", f"            _arguments -S \\\n                {lines}"]
        cases.append("            ;;")
    summaries = [_zsh_quoted(f"{verb.name}:{_first(verb.summary)}") for verb in known]
    return ZSH % {
        "note": NOTE,
        "options": " \\\n".join(f"        {_zsh_option(one)}" for one in command().options),
        "verbs": "\n".join(cases),
        "summaries": "\n".join(f"        {one}" for one in summaries),
    }


# fish

FISH_OFFERS = {
    Offer.NOTHING: "-x",
    Offer.FILES: "-r -F",
    Offer.FOLDERS: "-x -a '(__fish_complete_directories)'",
    Offer.INTERFACES: "-x -a '(__fish_print_interfaces)'",
    Offer.COMMANDS: "-x -a '(__fish_complete_command)'",
}


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_names(option: Parameter) -> str:
    return " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    )


def _fish_value(parameter: Parameter) -> str:
    offered = words(parameter)
    if not offered:
        return FISH_OFFERS[offer(parameter)]
    exclusive = "-x" if offer(parameter) is Offer.NOTHING else "-r -F"
    return f"{exclusive} -a '{' '.join(offered)}'"


def _fish_verb(verb: Verb) -> Iterator[str]:
    inside = f"complete -c pgmlite -n '__fish_seen_subcommand_from {verb.name}'"
    for option in verb.options:
        value = f" {_fish_value(option)}" if option.value else ""
        said = _fish_quoted(_first(option.help))
        yield f"{inside} {_fish_names(option)}{value} -d {said}"
    for argument in verb.arguments:
        if offer(argument) is not Offer.NOTHING:
            yield f"{inside} {_fish_value(argument).replace('-r ', '')}"


def fish() -> str:
    """Return the completion for fish."""
    known = verbs()
    lines = ["# Completion of pgmlite for fish.", f"# {NOTE}", "", "complete -c pgmlite -f"]
    first = "complete -c pgmlite -n __fish_use_subcommand"
    told = [(_fish_names(option), option.help) for option in command().options]
    told += [(f"-a {verb.name}", verb.summary) for verb in known]
    lines += [f"{first} {words} -d {_fish_quoted(_first(text))}" for words, text in told]
    for verb in known:
        lines += ["", *_fish_verb(verb)]
    return "\n".join([*lines, ""])


def completions() -> dict[str, str]:
    """Return the completions by the names of their files."""
    return {"pgmlite.bash": bash(), "_pgmlite": zsh(), "pgmlite.fish": fish()}
