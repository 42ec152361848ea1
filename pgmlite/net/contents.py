"""The content of what is sent or signed, made ready to be read at any place."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from pgmlite.core.events import Spooling, Tell, Warned
from pgmlite.net.hashing import work_beside
from pgmlite.net.waiting import Waits
from pgmlite.storage.signed import find_content
from pgmlite.storage.source import SourceFile
from pgmlite.storage.spooled import Report, is_spooled, open_source


def open_content(
    opened: ExitStack, file: Path, content: Path | None, spool: Path | None, tell: Tell
) -> Waits[SourceFile]:
    """Open the content of what is sent; `opened` closes it.

    Args:
        file: What to send, as of `open_path`; or FILE.pglm.
        content: Of FILE.pglm; None: FILE beside it.
        spool: As of `open_path`.

    Raises:
        DiskError: It is not there; or as `open_path`.
        UsageError: As `open_path`.
        Interrupted: It was asked to stop.
    """
    return (yield from open_path(opened, find_content(file, content), spool, tell))


def open_path(opened: ExitStack, path: Path, spool: Path | None, tell: Tell) -> Waits[SourceFile]:
    """Open a file, a block device, a folder or standard input; `opened` closes it.

    Args:
        path: Of it; `-`: standard input.
        spool: The folder for what has to be copied first; None: that for temporary files.

    Raises:
        DiskError: It can't be read or copied, or is nothing that can be sent.
        UsageError: The spool is of no use, or standard input is a terminal.
        Interrupted: It was asked to stop.
    """

    def copying(report: Report) -> SourceFile:
        copy = open_source(path, spool, report)
        opened.callback(copy.close)  # here: nobody may be waiting for it any more
        return copy

    if is_spooled(path):
        source = yield from work_beside(copying, tell, Spooling)
    else:
        source = open_source(path, spool)
        opened.callback(source.close)
    for text in source.warnings:
        tell(Warned(time.monotonic_ns(), text))
    return source
