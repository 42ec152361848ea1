"""pgmlite: push one file to any number of machines over IP multicast.

`send`, `receive` and `repair` are what a program needs, and `together` makes one of several;
`keygen`, `sign`, `add_signature` and `verify` are for signed objects, and `list_sessions` tells
what is on the air (`pgmlite.api`). They are imported when they are first used.

The rings, and what each may import::

    cli -> {api, capture, sim} -> net -> storage -> core -> wire -> errors

`sim` needs neither net nor storage, and `pgmlite.dissect` no more than wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgmlite.api import (
        add_signature,
        keygen,
        list_sessions,
        receive,
        repair,
        send,
        sign,
        together,
        verify,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "add_signature",
    "keygen",
    "list_sessions",
    "receive",
    "repair",
    "send",
    "sign",
    "together",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import what a program uses first when it does: ``import pgmlite`` stays cheap."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pgmlite import api

    return getattr(api, name)
