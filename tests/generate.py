"""Write what is generated from the code: vectors, tables, diagrams, the dissector, manual pages.

    python -m tests.generate

after a change to the declaration of the format, to a transition table, to a vector or to an option.
The tests `test_generated` and `test_vectors` fail until it has been run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pgmlite.core.machine import FAILURES
from pgmlite.core.receive.counts import BLOCK_TRANSITIONS
from pgmlite.core.receive.names import NAME_TRANSITIONS
from pgmlite.core.receive.rates import RATE_TRANSITIONS
from pgmlite.core.receive.transfer import TRANSFER_TRANSITIONS
from pgmlite.core.receive.wants import WANT_TRANSITIONS
from pgmlite.dissect.lua import dissector
from pgmlite.wire.derive import fill, fill_tables
from pgmlite.wire.digests import block_digest, digest
from pgmlite.wire.manifest import REFUSED_RANGES
from tests.support import completions, event_schema, man_pages, ring_vectors, vector_files, vectors
from tests.support.config_tables import config_table

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "spec"
SHARE = ROOT / "pgmlite" / "share"

MACHINES: dict[str, dict[tuple[Any, Any], Any]] = {
    "transfer": TRANSFER_TRANSITIONS,
    "block": BLOCK_TRANSITIONS,
    "want": WANT_TRANSITIONS,
    "name": NAME_TRANSITIONS,
    "rates": RATE_TRANSITIONS,
}
"""Transition tables by the name of their diagram in the spec."""


def diagram(transitions: dict[tuple[Enum, Enum], Enum]) -> str:
    """Return a transition table as a Mermaid state diagram; the first state is the start."""
    start = next(iter(type(next(iter(transitions))[0])))
    states = type(start)
    left = {state for state, _ in transitions}
    arrows = [f"    [*] --> {start.name}"]
    arrows += [f"    {a.name} --> {b.name}: {event.name}" for (a, event), b in transitions.items()]
    arrows += [f"    {state.name} --> [*]" for state in states if state not in left]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])


def matrix(transitions: dict[tuple[Enum, Enum], Enum]) -> str:
    """Return a transition table as a table of states by events."""
    first = next(iter(transitions))
    states, events = (list(type(one)) for one in first)
    rows = ["| state | " + " | ".join(event.name for event in events) + " |"]
    rows.append("|---" * (1 + len(events)) + "|")
    for state in states:
        to = [transitions.get((state, event)) for event in events]
        cells = [after.name if after else "" for after in to]
        rows.append(f"| {state.name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def small_example() -> str:
    """Return the worked example of blocks, tree and manifest."""
    of = vectors.SMALL
    manifest, size = of.manifest, of.manifest.block_size
    rows = ["| block | offset | bytes | symbols | digest |", "|---:|---:|---:|---|---|"]
    for block in range(manifest.blocks):
        content = of.data[block * size : (block + 1) * size]
        first = block * manifest.block_symbols
        last = min(first + manifest.block_symbols, manifest.symbols) - 1
        digest_text = f"`{block_digest(content, manifest.symbol_size).hex()}`"
        rows.append(
            f"| {block} | {block * size} | {len(content)} | {first} to {last} | {digest_text} |"
        )
    shape = of.tree.shape
    nodes = ["| node | bytes | has the digests of | its own digest |", "|---:|---:|---|---|"]
    for number in range(shape.nodes):
        node, children = of.tree.node(number), shape.children(number)
        what, first = ("blocks", shape.nodes) if number in shape.leaves else ("nodes", 0)
        span = f"{what} {children[0] - first} to {children[-1] - first}"
        nodes.append(f"| {number} | {len(node)} | {span} | `{digest(node).hex()}` |")
    return "\n".join(
        [
            *rows,
            "",
            *nodes,
            "",
            "* The digest of node 0 is the manifest's `tree_digest`.",
            f"* The manifest has {len(manifest.raw)} bytes; its digest is "
            f"`{digest(manifest.raw).hex()}`.",
            f"* The oid is `{manifest.oid:016x}`.",
        ]
    )


EXAMPLES = {
    "small": small_example,
    "visits": ring_vectors.visits_example,
    "orders": ring_vectors.orders_example,
}


def refused_characters() -> str:
    """Return the characters that a name may not have, as a table."""
    rows = ["| from | to | characters |", "|---|---|---|"]
    rows += [f"| U+{a:04X} | U+{b:04X} | {what} |" for a, b, what in REFUSED_RANGES]
    return "\n".join(rows)


def dns_failures() -> str:
    """Return why DNS may say nothing of a name, as a table."""
    rows = ["| word | meaning |", "|---|---|"]
    rows += [f"| `{word}` | {meaning} |" for word, meaning in FAILURES.items()]
    return "\n".join(rows)


def protocol(text: str) -> str:
    """Return ``protocol.md`` with its tables, diagrams, limits and examples filled anew."""
    text = fill(fill_tables(text), "diagram", lambda name: diagram(MACHINES[name]))
    text = fill(text, "transitions", lambda name: matrix(MACHINES[name]))
    lists = {"refused-characters": refused_characters(), "dns-failures": dns_failures()}
    text = fill(text, "list", lists.__getitem__)
    text = fill(text, "config", config_table)
    return fill(text, "example", lambda name: EXAMPLES[name]())


def as_json(value: dict[str, Any]) -> str:
    """Return JSON with one element of a list a line."""
    parts = []
    for key, part in value.items():
        if isinstance(part, list):
            items = ",\n".join("  " + json.dumps(item) for item in part)
            parts.append(f"{json.dumps(key)}: [\n{items}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(part)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def files() -> Iterator[tuple[Path, str]]:
    """Yield each generated file and what belongs into it."""
    page = SPEC / "protocol.md"
    yield page, protocol(page.read_text())
    yield SPEC / "pgmlite.lua", dissector()
    yield SPEC / "events.json", event_schema.text()
    for name, make in vector_files.FILES.items():
        yield SPEC / "vectors" / name, as_json(make())
    for name, text in man_pages.pages().items():
        yield SHARE / "man" / "man1" / name, text
    for name, text in completions.completions().items():
        yield SHARE / "completions" / name, text


if __name__ == "__main__":
    for path, text in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT), len(text))
