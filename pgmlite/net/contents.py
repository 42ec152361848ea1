"""The content of what is sent or signed, made ready to be read at any place."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from pgmlite.core.events import Tell
from pgmlite.net.waiting import Waits
from pgmlite.storage.signed import find_content
from pgmlite.storage.source import SourceFile


def open_content(
    opened: ExitStack, file: Path, content: Path | None, spool: Path | None, tell: Tell
) -> Waits[SourceFile]:
    """Open the content of what is sent; `opened` closes it.

    Args:
        file: A file, or FILE.pglm.
        content: Of FILE.pglm; None: FILE beside it.
        spool: The folder for what has to be copied first; None: that for temporary files.

    Raises:
        DiskError: It is not there, can't be read, or is nothing that can be sent.
        Interrupted: It was asked to stop.
    """
    yield from ()
    source = SourceFile(find_content(file, content))
    opened.callback(source.close)
    return source
