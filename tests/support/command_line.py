"""The command line as data: what its manual pages and completions are made of.

Nothing here is asked of click that one of its versions answers otherwise than another: how help is
laid out, or what stands for a default that there is none.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import click

from pgmlite.cli import VERBS, app

KEYWORD = re.compile(r"[a-z]+")
"""Of alternatives of a value: one that is typed as it stands, as ``off`` in ``PERCENT|off``."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option or an argument.

    Attributes:
        names: Of an option, such as ``-o`` and ``--output``; none of an argument.
        value: What stands for the value in the help; empty: it has none.
        choices: The only values that there are; empty: others are taken, too.
        default: As it is typed; empty: none, or the help tells.
        least: No number below this is taken; None: all are, or it is no number.
        most: And none above this.
        variable: Of the environment, from which it comes as well; empty: none.
        repeats: It may be given more than once.
        required: It has to be given.
    """

    names: tuple[str, ...]
    value: str
    help: str
    choices: tuple[str, ...]
    default: str
    least: int | float | None
    most: int | float | None
    variable: str
    repeats: bool
    required: bool

    @property
    def alternatives(self) -> list[str]:
        """What the value may be, by kind: ``PATH``, ``DIR/`` and ``-``."""
        return self.value.strip("[]").split("|")

    @property
    def words(self) -> list[str]:
        """Values that are typed as they stand."""
        return [*self.choices] or [one for one in self.alternatives if KEYWORD.fullmatch(one)]


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb, or the command itself.

    Attributes:
        name: Empty: of the command itself.
        text: What it does: paragraphs, and blocks of lines that begin with a line of ``\\b``.
        epilog: The same, of what stands at the end.
    """

    name: str
    text: str
    epilog: str
    options: list[Parameter]
    arguments: list[Parameter]

    @property
    def summary(self) -> str:
        """The first sentence, without its full stop."""
        first = " ".join(self.text.partition("\n\n")[0].split())
        return first.partition(". ")[0].rstrip(".")

    @property
    def usage(self) -> list[str]:
        """What may follow the verb, as words."""
        words = [f"{one.names[-1]} {one.value}" for one in self.options if one.required]
        for one in self.arguments:
            dots = "..." if one.repeats else ""
            words.append(f"{one.value}{dots}" if one.required else f"[{one.value}{dots}]")
        return ["[OPTION]...", *words]


HELP = Parameter(
    ("-h", "--help"), "", "Show the help and exit.", (), "", None, None, "", False, False
)
VERSION = Parameter(
    ("--version",), "", "Print the version and exit.", (), "", None, None, "", False, False
)


def _limits(kind: Any) -> tuple[int | float | None, int | float | None]:
    is_range = isinstance(kind, click.IntRange | click.FloatRange)
    return (kind.min, kind.max) if is_range else (None, None)


def _parameter(given: click.Parameter) -> Parameter:
    choices = tuple(given.type.choices) if isinstance(given.type, click.Choice) else ()
    value = given.metavar or ("|".join(choices) if choices else str(given.name).upper())
    default = str(given.default) if isinstance(given.default, str | int | float) else ""
    help_text = ""
    if isinstance(given, click.Option):
        help_text = " ".join((given.help or "").split())
        if given.is_flag:
            value = default = ""
    least, most = _limits(given.type)
    return Parameter(
        names=tuple(given.opts) if isinstance(given, click.Option) else (),
        value=value if isinstance(given, click.Option) else value.strip("[]"),
        help=help_text,
        choices=choices,
        default=default.removesuffix(".0"),
        least=least,
        most=most,
        variable=given.envvar if isinstance(given.envvar, str) else "",
        repeats=getattr(given, "multiple", False) or given.nargs != 1,
        required=given.required,
    )


def _verb(name: str, command: click.Command) -> Verb:
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    return Verb(
        name=name,
        text=inspect.cleandoc(command.help or ""),
        epilog=inspect.cleandoc(command.epilog or ""),
        options=[*(_parameter(one) for one in shown if isinstance(one, click.Option)), HELP],
        arguments=[_parameter(one) for one in shown if isinstance(one, click.Argument)],
    )


def command() -> Verb:
    """Return what the command itself takes, before a verb."""
    return Verb("", inspect.cleandoc(app.help or ""), "", [VERSION, HELP], [])


def verbs() -> list[Verb]:
    """Return the verbs, in the order of the help."""
    context = click.Context(app)
    found = []
    for name in VERBS:
        one = app.get_command(context, name)
        assert one is not None
        found.append(_verb(name, one))
    return found
