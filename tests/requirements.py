"""The requirements of ``spec/protocol.md`` and the tests that cite them.

    python -m tests.requirements

prints each identifier with its tests; the exit code is 1 if one has none.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent / "spec" / "protocol.md"

CLAUSE = r"[A-Z]{2,4}-\d+"
CITATION = re.compile(rf"spec: ({CLAUSE}(?:(?:, | and | to ){CLAUSE})*)")


def cited(text: str) -> set[str]:
    """Return the ids that `text` cites; ``A-1 to A-3`` cites all three."""
    found = set()
    for citation in CITATION.findall(text):
        for part in re.split(r", | and ", citation):
            first, _, last = part.partition(" to ")
            series, number = first.split("-")
            stop = int(last.split("-")[1]) if last else int(number)
            found |= {f"{series}-{n}" for n in range(int(number), stop + 1)}
    return found


def defined() -> list[str]:
    """Return the identifiers of all requirements, in order."""
    return re.findall(rf"\*\*({CLAUSE})\*\*", SPEC.read_text())


def tests() -> dict[str, list[str]]:
    """Return the tests that cite each requirement."""
    found: dict[str, list[str]] = {clause: [] for clause in defined()}
    for path in sorted(HERE.rglob("test_*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for clause in cited(ast.get_source_segment(text, node) or ""):
                    found.setdefault(clause, []).append(f"{path.name}::{node.name}")
    return found


def untested() -> list[str]:
    """Return the requirements that no test cites."""
    return [clause for clause, names in tests().items() if not names]


if __name__ == "__main__":
    for clause, names in tests().items():
        print(f"{clause}: {', '.join(names) or 'NO TEST'}")
    sys.exit(bool(untested()))
