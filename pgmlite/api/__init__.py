"""What a program imports: send, receive and repair, to the end or event by event, with or without
asyncio.

Each call checks its arguments and returns a `Handle`; nothing is opened before that is used::

    done = pgmlite.receive("copy.bin", group="239.1.2.3").run()      # to the end

    with pgmlite.receive("copy.bin", group="239.1.2.3") as transfer:  # event by event
        for event in transfer:
            ...

    done = await pgmlite.receive("copy.bin", group="239.1.2.3")      # the same with asyncio
    async with pgmlite.receive("copy.bin", group="239.1.2.3") as transfer:
        async for event in transfer:
            ...

Events are the classes of `pgmlite.core.events`, errors those of `pgmlite.errors`. No signal is
taken over, nothing is printed, and no thread stays.
"""

from __future__ import annotations

from pgmlite.api.signing import add_signature, keygen, sign, verify
from pgmlite.api.transfers import list_sessions, receive, repair, send, together
from pgmlite.net.handle import Handle

__all__ = [
    "Handle",
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
