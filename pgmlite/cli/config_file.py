"""Options of a command in a file: TOML, a table for each job, and what stands above them for all.

Keys are the long names of options. What the command line or the environment says wins, then the
table, then what stands above.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from pgmlite.cli.codes import line_of
from pgmlite.cli.options import Duration
from pgmlite.errors import DiskError, PgmliteError, UsageError
from pgmlite.storage.folder import WRITES, lets_others_rename
from pgmlite.storage.system import close_quietly, reason

T = TypeVar("T")

MAX_CONFIG = 1 << 20
"""Bytes."""

ARGUMENTS = "pgmlite.arguments"
"""Where a context keeps what stands on its command line."""

OF_THE_PROCESS = frozenset({"config", "as_json", "log_interval", "help"})
"""Parameters that are no job's."""

POSITIONAL = {"service": "name"}
"""Keys for what has no option."""

EXCLUSIVE = ({"name"}, {"group", "port"})
"""Of these a table has one or the other: what stands above it gives way to what is in it."""

PATHS = frozenset({"output", "device", "spool", "key", "base"})
"""Keys whose values are files or folders."""

Table = dict[str, Any]


class Configured(click.Command):
    """A command that can be made again from its command line, with other defaults."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the command line."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def each_table(path: Path, make: Callable[..., T]) -> dict[str, T]:
    """Return what `make` makes of the options of each table, by its name.

    Args:
        make: Takes the parameters of the present command, without those that are no job's.

    Raises:
        UsageError: The file, or an option, is wrong.
        DiskError: It can't be read, or others may write it.
    """
    context = click.get_current_context()
    arguments = context.meta[ARGUMENTS]
    made: dict[str, T] = {}
    places: dict[str, str] = {}
    for name, defaults in read_config(path, context.command).items():
        where = f"config {path}: [{name}]"
        try:
            with context.command.make_context(
                context.info_name, list(arguments), parent=context.parent, default_map=defaults
            ) as own:
                _claim(places, name, own.params)
                made[name] = make(
                    **{k: v for k, v in own.params.items() if k not in OF_THE_PROCESS}
                )
        except UsageError as error:
            raise UsageError(f"{where}: {line_of(error).removeprefix('--')}") from error
        except PgmliteError as error:
            raise type(error)(f"{where}: {error}") from error
        except click.ClickException as error:
            text = " ".join(error.format_message().split()).rstrip(".")
            raise UsageError(f"{where}: {text}") from error
    return made


def _claim(places: dict[str, str], name: str, parameters: Mapping[str, Any]) -> None:
    """
    Raises:
        UsageError: Another table has the same place.
    """
    place = parameters["output"] or parameters["device"]
    if place is None:
        return
    other = places.setdefault(os.path.realpath(place), name)
    if other != name:
        raise UsageError(f"output {place}: is that of [{other}], too; each table has its own")


def read_config(path: Path, command: click.Command) -> dict[str, Table]:
    """Return the parameters that each table sets, what stands above it among them.

    Raises:
        UsageError: It is no TOML, or has what the command does not take.
        DiskError: It can't be read, or others may write it.
    """
    try:
        values = tomllib.loads(_read(path).decode())
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"config {path}: {error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"config {path}: is not in UTF-8") from None
    except RecursionError:
        raise UsageError(f"config {path}: is nested too deeply") from None
    except ValueError:  # of Python, which takes no numbers of thousands of digits
        raise UsageError(f"config {path}: has a number that is too long") from None
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    if not tables:
        raise UsageError(f"config {path}: has no table; each output is one, such as [firmware]")
    known = dict(_parameters(command))
    rest = {key: value for key, value in values.items() if key not in tables}
    common = _translate(f"config {path}", rest, known)
    found = {}
    for name, table in tables.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
            raise UsageError(
                f"config {path}: [{name}]: name it with 1 to 64 of A-Z, a-z, 0-9, _, . and -"
            )
        own = _translate(f"config {path}: [{name}]", table, known)
        found[name] = _above(common, own) | own
    return found


def _above(common: Table, own: Table) -> Table:
    """Return what stands above a table, without what that has said in another way."""
    gone: set[str] = set()
    for one, other in (EXCLUSIVE, EXCLUSIVE[::-1]):
        if one & own.keys():
            gone |= other
    return {key: value for key, value in common.items() if key not in gone}


def _read(path: Path) -> bytes:
    """
    Raises:
        DiskError: It can't be read, or others may write it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status, folder = os.fstat(fd), os.stat(path.parent)
            raw = os.read(fd, MAX_CONFIG + 1)
        finally:
            close_quietly(fd)
    except OSError as error:
        raise DiskError(f"config {path}: {reason(error)}") from error
    # It names commands that are run.
    if not stat.S_ISREG(status.st_mode):
        raise DiskError(f"config {path}: is not a regular file")
    if status.st_uid not in {0, os.geteuid()}:
        raise DiskError(f"config {path}: belongs to user {status.st_uid}, who may write it")
    if status.st_mode & WRITES:
        raise DiskError(f"config {path}: others may write it; chmod go-w {path}")
    if lets_others_rename(folder):
        raise DiskError(f"config {path}: others may replace the files in {path.parent}")
    if len(raw) > MAX_CONFIG:
        raise DiskError(f"config {path}: is longer than {MAX_CONFIG} bytes")
    return raw


def _parameters(command: click.Command) -> Iterator[tuple[str, click.Parameter]]:
    """Yield the keys that a table may have, and what they set."""
    by_name = {one.name: one for one in command.params}
    for one in command.params:
        if isinstance(one, click.Option) and one.name not in OF_THE_PROCESS:
            yield next(text for text in one.opts if text.startswith("--"))[2:], one
    for key, name in POSITIONAL.items():
        if name in by_name:
            yield key, by_name[name]


def _translate(where: str, values: Table, known: Mapping[str, click.Parameter]) -> Table:
    """Return values by the names of parameters.

    Raises:
        UsageError: There is no such key, or it has other values.
    """
    found = {}
    for key, value in values.items():
        parameter = known.get(key)
        if parameter is None:
            raise UsageError(f"{where}: {_unknown(key, known)}")
        _check(f"{where}: {key}", parameter, value)
        if key in PATHS:
            _check_path(f"{where}: {key}", value)
        elif key == "on-complete":
            _check_command(f"{where}: {key}", value)
        found[str(parameter.name)] = value
    return found


def _unknown(key: str, known: Mapping[str, click.Parameter]) -> str:
    if key in {"config", "json", "log-interval"}:
        return f"{key}: is for the command line, not for a table"
    near = get_close_matches(key, known, 1)
    return f"there is no {key!r}" + (
        f"; did you mean {near[0]!r}?" if near else "; keys are the long names of options"
    )


def _check(where: str, parameter: click.Parameter, value: Any) -> None:
    """
    Raises:
        UsageError: A value is of another type.
    """
    kind = parameter.type
    if getattr(parameter, "is_flag", False):
        wanted, is_right = "true or false", isinstance(value, bool)
    elif parameter.multiple:
        wanted = "a list of strings"
        is_right = isinstance(value, list) and all(isinstance(one, str) for one in value)
    elif isinstance(kind, click.types.IntParamType):
        wanted, is_right = "a whole number", type(value) is int
    elif isinstance(kind, click.Path) or where.endswith(tuple(f": {key}" for key in PATHS)):
        wanted, is_right = "a string", isinstance(value, str)
    else:
        wanted = 'a number of seconds, or a string such as "5m"'
        if not isinstance(kind, Duration):
            wanted = "a string"
        is_right = type(value) in {str, int, float}
    if not is_right:
        raise UsageError(f"{where}: must be {wanted}")
    if any("\0" in str(one) for one in (value if isinstance(value, list) else [value])):
        raise UsageError(f"{where}: has a NUL in it, which nothing here can have")


def _check_path(where: str, value: str | list[str]) -> None:
    """
    Raises:
        UsageError: A path is relative: to what, a reader of the file would have to guess.
    """
    for one in [value] if isinstance(value, str) else value:
        if one != "-" and not Path(one).is_absolute():
            raise UsageError(f"{where} {one}: is relative; give all of the path, from / on")


def _check_command(where: str, value: Any) -> None:
    try:
        program = next(iter(shlex.split(str(value))), "")
    except ValueError:
        return  # found out, and said, where all commands are looked for
    if "/" in program:
        _check_path(where, program)
