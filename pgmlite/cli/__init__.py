"""The command line: argument parsing and printing; one file a verb, or a pair of them."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import typer

from pgmlite.cli import compare, demo, info, repair, replay, transfer
from pgmlite.errors import EXIT_INTERNAL, EXIT_OK, PgmliteError

EPILOG = (
    "Exit codes: 0 verified and published, 1 internal error, 2 usage, 3 network, "
    "4 verification, 5 timed out (what came is kept), 6 interrupted, 7 disk, 8 hook failed."
)

app = typer.Typer(
    help="Push one file to any number of machines over IP multicast.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("send", epilog=transfer.SEND_EXAMPLES)(transfer.send)
app.command("recv", epilog=transfer.RECV_EXAMPLES)(transfer.recv)
app.command("repair", epilog=repair.REPAIR_EXAMPLES)(repair.repair)
app.command("compare", epilog=compare.COMPARE_EXAMPLES)(compare.compare)
app.command("replay", epilog=replay.REPLAY_EXAMPLES)(replay.replay)
app.command("info")(info.info)
app.command("demo")(demo.demo)


def _version(value: bool) -> None:
    if value:
        from pgmlite import __version__

        print(f"pgmlite {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    """Options of every verb."""


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
        print(f"pgmlite: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Who read our output has gone; Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERNAL
    except Exception:  # noqa: BLE001 - the last line of defence: say that it is our defect
        traceback.print_exc()
        print("pgmlite: internal error; please report the lines above", file=sys.stderr)
        return EXIT_INTERNAL


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())
