"""The command line: argument parsing and printing; one file a verb."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from pgmlite import __version__
from pgmlite.errors import EXIT_INTERNAL, EXIT_OK, DiskError, PgmliteError

EPILOG = (
    "Exit codes: 0 verified and published, 1 internal error, 2 usage, 3 network, "
    "4 verification, 5 timed out (what came is kept), 6 interrupted, 7 disk, 8 hook failed."
)

OUTPUT_LOST = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of standard output or standard error: all others are named where they happen."""

VERBS = ("send", "recv", "repair", "compare", "replay", "info", "demo")
"""Each is a command in the module of its name."""


class Verbs(click.Group):
    """Imports a verb when it is used: the time to start counts as time to send."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs, as the help shows them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb's command; None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb.

        Raises:
            DiskError: Standard output or standard error can't be written.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            if error.errno not in OUTPUT_LOST:
                raise
            # Python would complain once more while it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise DiskError(f"output: {error.strerror}") from error
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
    """Run one command; return its exit code (`pgmlite.errors`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for good
    try:
        app(arguments, prog_name="pgmlite")
        return EXIT_OK
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else EXIT_OK
    except PgmliteError as error:
        if not isinstance(error.__cause__, BrokenPipeError):  # who read us has seen enough
            with suppress(OSError):  # that may be what is lost
                print(f"pgmlite: {error}", file=sys.stderr)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the last line of defence: say that it is our defect
        import traceback

        traceback.print_exc()
        print("pgmlite: internal error; please report the lines above", file=sys.stderr)
        return EXIT_INTERNAL


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())
