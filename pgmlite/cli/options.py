"""Options that several verbs share."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from pgmlite.errors import UsageError
from pgmlite.net.arguments import DEFAULT_GROUP, DEFAULT_PORT

PATH = click.Path(path_type=Path, readable=False)
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


def is_given(parameter: str) -> bool:
    """Whether a parameter of the command stands on its command line."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is ParameterSource.COMMANDLINE


option = partial(click.option, show_envvar=True)

file = click.argument("file", metavar="FILE", type=PATH, callback=named)
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
keys = option(
    "--key",
    "keys",
    type=PATH,
    multiple=True,
    metavar="PUB.pem",
    help="Take only what the owner of this public key has signed; repeatable, or a folder of keys.",
)
stream = option("--stream", metavar="NAME", help="Take releases of this stream only; needs --key.")
object_name = option(
    "--name",
    "object_name",
    metavar="GLOB",
    help="Take an object with such a name only, such as 'router-*.bin'.",
)
output_path = option(
    "-o",
    "--output",
    "output_path",
    type=PATH,
    required=True,
    callback=named,
    metavar="PATH",
    help="The file to write; where it is a link, what it leads to.",
)
as_json = option(
    "--json", "as_json", is_flag=True, help="Print events as JSON, one a line, on stdout."
)
no_checksum = option(
    "--no-checksum",
    is_flag=True,
    help="Take datagrams whose UDP checksum is wrong: some machines capture before it is computed.",
)
