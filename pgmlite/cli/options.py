"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pgmlite.cli.values import parse_channel, parse_duration, parse_fec, parse_interval
from pgmlite.errors import UsageError
from pgmlite.net.arguments import DEFAULT_FEC, DEFAULT_GROUP, DEFAULT_PORT, source_path


class _NamedPath(click.Path):
    """A path; an empty one, of a variable that is not set, would be the present folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """
        Raises:
            UsageError: It is empty.
        """
        if value == "" and param is not None:
            hint = param.get_error_hint(ctx).strip("'")
            raise UsageError(f"{hint}: is empty; give a path")
        found = super().convert(value, param, ctx)
        return source_path(value) if isinstance(found, Path) else found


PATH = _NamedPath(path_type=Path, readable=False)
"""Not looked at here: the storage says what is wrong with a file, and that is no usage error."""


def named(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """Return a path that is a file's.

    Raises:
        UsageError: It is the ``-`` of other tools.
    """
    if str(value) == "-":
        raise UsageError(
            f"{parameter.get_error_hint(context)} -: give a file; ./- is one of that name"
        )
    return value


def all_named(
    context: click.Context, parameter: click.Parameter, value: tuple[Path, ...]
) -> tuple[Path, ...]:
    """Return paths that are files'; else as `named`."""
    return tuple(named(context, parameter, one) for one in value)


def option_name(parameter: click.Parameter) -> str:
    """Return an option as people type it, the long form where there is one."""
    return max(parameter.opts, key=len)


def is_given(parameter: str) -> bool:
    """Whether a parameter of the command stands on its command line, or in its configuration."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source in {ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP}


if TYPE_CHECKING:
    Seconds = click.ParamType[float]
else:  # not every click can be asked for it
    Seconds = click.ParamType


class Duration(Seconds):
    """A time, in seconds; the same words for every option that takes one."""

    name = "duration"
    parse = staticmethod(parse_duration)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """
        Raises:
            UsageError: It is none.
        """
        if isinstance(value, int | float):  # a default
            return float(value)
        named = option_name(param) if param else self.name
        return self.parse(named, value)


class _Interval(Duration):
    """How often something is said; ``off``: never, which is 0."""

    parse = staticmethod(parse_interval)


DURATION = Duration()

option = partial(click.option, show_envvar=True)
duration = partial(option, type=DURATION, metavar="DURATION")
"""An option that takes a time; `pgmlite.cli.values.parse_duration` has the words."""

file = click.argument("file", metavar="FILE|DIR|DEVICE|-", type=PATH)
group = option(
    "-g",
    "--group",
    default=DEFAULT_GROUP,
    metavar="ADDR[%IF]",
    envvar="PGMLITE_GROUP",
    help="Multicast group.",
)
port = option(
    "-p",
    "--port",
    type=int,
    default=DEFAULT_PORT,
    metavar="PORT",
    envvar="PGMLITE_PORT",
    help="UDP port.",
)
interface = option(
    "-i",
    "--interface",
    metavar="IF",
    envvar="PGMLITE_INTERFACE",
    help="Network interface by name; may be left out where only one can be meant.",
)
_sources = partial(option, "--source", "sources", multiple=True, envvar="PGMLITE_SOURCE")
_NEEDED = "Needed for source-specific groups (ff3x::/32, 232.0.0.0/8)."
sources = _sources(metavar="ADDR", help=f"Hear this sender and no others; repeatable. {_NEEDED}")
sources_and_hosts = _sources(
    metavar="ADDR|NAME",
    help="Hear this sender and no others but those of NAME in DNS; repeatable. " + _NEEDED,
)
rate = option(
    "-r",
    "--rate",
    default="10M",
    metavar="RATE|max",
    envvar="PGMLITE_RATE",
    help="Bits a second on the wire with IP headers: 500k, 10M, 2.5G; max: no limit.",
)
hops = option(
    "--hops",
    type=click.IntRange(1, 255),
    metavar="N",
    default=1,
    envvar="PGMLITE_HOPS",
    help="Routers that may forward, plus 1.",
)
listen = option(
    "--listen",
    metavar="[ADDR]:PORT",
    help="Where NAKs are taken and, with ADDR, where packets come from; default: the interface, at "
    "the port after --port.",
)
content = option(
    "--content",
    type=PATH,
    metavar="PATH",
    help="The content of FILE.pglm, -: standard input; default: FILE beside it.",
)
spool = option(
    "--spool",
    type=PATH,
    metavar="FOLDER",
    help="Where the copy of what is a folder or standard input lies, while this runs. Default: "
    "$TMPDIR or /var/tmp.",
)
key_files = partial(option, "--key", "keys", multiple=True, type=PATH, callback=all_named)
keys = key_files(
    metavar="PUB.pem|FOLDER",
    help="Take only what the owner of this public key has signed; repeatable, or a folder of keys.",
)
stream = option("--stream", metavar="NAME", help="Take releases of this stream only; needs --key.")
object_name = option(
    "--name",
    "object_name",
    metavar="GLOB",
    help="Take an object with such a name only, such as 'router-*.bin'.",
)
captured_output = option(
    "-o",
    "--output",
    required=True,
    metavar="PATH|DIR/",
    help="The file to write; where it is a link, what it leads to. DIR/: the folder, for what was "
    "sent of one.",
)
output = option(
    "-o",
    "--output",
    metavar="PATH|DIR/|-",
    help="The file to write; where it is a link, what it leads to. DIR/: the folder, for what was "
    "sent of one. -: standard output.",
)
as_json = option(
    "--json", "as_json", is_flag=True, help="Print events as JSON, one a line, on stdout."
)
log_interval = option(
    "--log-interval",
    type=_Interval(),
    metavar="DURATION|off",
    envvar="PGMLITE_LOG_INTERVAL",
    help="How often progress is said where there is no terminal; off, or 0: never. "
    "Default: 10s, with --json 1s.",
)
no_checksum = option(
    "--no-checksum",
    is_flag=True,
    help="Take datagrams whose UDP checksum is wrong: some machines capture before it is computed.",
)

Command = Callable[..., None]

_OF_MANIFEST = (
    option(
        "--name", metavar="NAME", help="What the object is called; default: as the file or folder."
    ),
    option(
        "--channel",
        "channels",
        multiple=True,
        metavar="GROUP,RATE",
        help="A group and the rate there, in place of -g and -r of send; repeatable, 6 at most, "
        "each with another rate. Receivers take what fits them.",
    ),
    option(
        "--fec",
        metavar="PERCENT|off",
        help="Repair symbols, as a share of the object. Receivers make up for losses with any of "
        f"them. Default: {DEFAULT_FEC:.0%}; with several channels what they take, 167% for 2 to "
        "700% for 6.",
    ),
    option(
        "--block-symbols",
        type=int,
        metavar="N",
        help="Packets' worth of the file that repair symbols are made of: 1024 at most and by "
        "default, 4096 with --fec off.",
    ),
    option(
        "--mtu",
        type=int,
        metavar="BYTES",
        envvar="PGMLITE_MTU",
        help="Largest IP packet. Default: the interface's up to 1500 on one link "
        "(--hops 1), else 1280. Senders of one object must use the same.",
    ),
    option(
        "--symbol-size",
        type=int,
        metavar="BYTES",
        help="Bytes of the file in a packet; overrides --mtu.",
    ),
    option(
        "--repairer",
        multiple=True,
        metavar="ADDR:PORT",
        help="Name a stand-alone repairer in the manifest; repeatable.",
    ),
)

OF_MANIFEST = ("name", "channels", "fec", "block_symbols", "mtu", "symbol_size", "repairer")
"""Parameters that go into a manifest."""


def of_manifest(command: Command) -> Command:
    """Give a command the options that go into a manifest, as one: `plan`, by names of the API."""

    @wraps(command)
    def planned(
        *,
        channels: tuple[str, ...],
        fec: str | None,
        repairer: tuple[str, ...],
        name: str | None,
        block_symbols: int | None,
        mtu: int | None,
        symbol_size: int | None,
        **others: Any,
    ) -> None:
        plan = {
            "name": name,
            "channels": tuple(map(parse_channel, channels)),
            "fec": None if fec is None else parse_fec(fec),
            "block_symbols": block_symbols,
            "mtu": mtu,
            "symbol_size": symbol_size,
            "repairers": repairer,
        }
        command(plan=plan, **others)

    for add in reversed(_OF_MANIFEST):
        planned = add(planned)
    return planned


def refuse_others(known: frozenset[str], why: str) -> None:
    """Refuse what is given and of no use.

    Args:
        known: Parameters that are.
        why: What the error says.

    Raises:
        UsageError: There is such a one.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = str(parameter.name)
        if name not in known and is_given(name):
            hint = parameter.get_error_hint(context).strip("'")
            raise UsageError(f"{hint}: {why}")
