"""The command line: argument parsing and printing; one file a verb."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from pgmlite import __version__
from pgmlite.cli.codes import EXIT_OK, Told, exit_code, line_of
from pgmlite.cli.json_lines import EVENTS, failure
from pgmlite.cli.lines import Priority, say
from pgmlite.errors import DiskError, Interrupted, PgmliteError, UsageError

EPILOG = (
    "Exit codes: 0 verified and published, 1 internal error, 2 usage, 3 network, "
    "4 verification, 5 timed out (what came is kept), 6 interrupted, 7 disk, 8 hook failed."
)

OUTPUT_LOST = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of standard output or standard error: all others are named where they happen."""

OUTPUT_OPTIONS = ("-o", "--output")
STDOUT_IN_ONE = ("-o-", "--output=-")

VERBS = (
    "send",
    "recv",
    "repair",
    "keygen",
    "sign",
    "verify",
    "compare",
    "replay",
    "info",
    "list",
    "doctor",
    "demo",
)
"""Each is a command in the module of its name, or of that in `MODULES`."""

MODULES = {"list": "listing"}
"""A module of the verb's own name would take the place of Python's `list` in this one."""


class Verbs(click.Group):
    """Imports a verb when it is used: the time to start counts as time to send."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs, as the help shows them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb's command; None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        name = MODULES.get(cmd_name, cmd_name)
        command: click.Command = getattr(import_module(f"{__name__}.{name}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb and what follows it.

        Raises:
            click.UsageError: There is no such verb.
        """
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            near = get_close_matches(name, VERBS, 1)
            ctx.fail(
                f"there is no {name!r}; did you mean {near[0]!r}?"
                if near
                else f"there is no {name!r}; there are {', '.join(VERBS)}"
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb.

        Raises:
            DiskError: Standard output or standard error can't be written.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            # Not left to click, which has an exit code of its own for a reader that went away.
            if error.errno in OUTPUT_LOST:
                raise _lost(error) from error
            raise
        return result


@click.group(
    cls=Verbs,
    epilog=EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "max_content_width": 100,
    },
)
@click.version_option(__version__, message="pgmlite %(version)s", help="Print the version.")
def app() -> None:
    """Push one file to any number of machines over IP multicast."""


def run(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (`pgmlite.cli.codes`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for good
    words = sys.argv[1:] if arguments is None else arguments
    # Options may be what is wrong: where events belong must be known before they are read.
    EVENTS.stdout_is_data = takes_stdout(words)
    end = _perform(words)
    if end is None:
        return EXIT_OK
    error = end.error if isinstance(end, Told) else end
    # Who asked for events anywhere gets this one as well.
    has_events = "--json" in words
    if has_events and error is end:
        with suppress(OSError):  # that may be what is lost
            EVENTS.write(failure(error))
    has_seen_enough = isinstance(error.__cause__, BrokenPipeError)  # who read us
    if not has_seen_enough and not (has_events and EVENTS.stdout_is_data):
        with suppress(OSError):
            say(f"pgmlite: {line_of(error)}", Priority.ERROR)
    return exit_code(error)


def takes_stdout(words: list[str]) -> bool:
    """Whether a command line asks for a file's bytes on standard output: ``recv -o -``."""
    pairs = pairwise([*words, ""])
    return any(
        one in STDOUT_IN_ONE or (one in OUTPUT_OPTIONS and other == "-") for one, other in pairs
    )


def _perform(words: list[str]) -> PgmliteError | Told | None:
    """Run one command; return the error that ended it."""
    if not words:
        context = click.Context(app, info_name="pgmlite", **app.context_settings)
        print(app.get_help(context), file=sys.stderr)
        return UsageError("name a verb")
    try:
        app.main(words, prog_name="pgmlite", standalone_mode=False)
        sys.stdout.flush()
    except (PgmliteError, Told) as error:
        return error
    except SystemExit:  # click's, if who read the help went away
        return _lost(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
    except click.ClickException as error:
        return UsageError(_one_line(error))
    except click.Abort:  # a signal that came before a verb could take it over
        return Interrupted("interrupted")
    except OSError as error:
        return _lost(error) if error.errno in OUTPUT_LOST else _defect()
    except Exception:  # noqa: BLE001 - the last line of defence: say that it is our defect
        return _defect()
    return None


def _lost(error: OSError) -> DiskError:
    # Python would complain once more while it exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    lost = DiskError(f"output: {error.strerror}")
    lost.__cause__ = error
    return lost


def _one_line(error: click.ClickException) -> str:
    """Return what click has to say, and where more is to be found."""
    text = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text}; see {context.command_path} --help" if context else text


def _defect() -> PgmliteError:
    import traceback

    traceback.print_exc()
    return PgmliteError("internal error; please report the lines above")


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())
