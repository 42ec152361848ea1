"""Imports go one way, and the pure rings stay pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgmlite

PACKAGE = Path(pgmlite.__file__).parent

MAY_IMPORT = {
    "errors": set(),
    "fec": {"errors"},
    "wire": {"errors"},
    "core": {"fec", "wire", "errors"},
    "storage": {"core", "fec", "wire", "errors"},
    "net": {"storage", "core", "fec", "wire", "errors"},
    "capture": {"net", "storage", "core", "fec", "wire", "errors"},
    "sim": {"core", "fec", "wire", "errors"},
    "api": {"net", "core", "wire", "errors"},
    "cli": {"api", "capture", "net", "sim", "storage", "core", "wire", "errors", ""},
    "__main__": {"cli"},
    "dissect": {"wire", "errors"},
    "scapy": {"dissect"},
    "": {"api"},
}
"""Ring -> the other rings that it may import; "" is the package's own ``__init__``."""

PURE = {"errors", "fec", "wire", "core", "sim"}
WORLD = {"socket", "time", "os", "threading", "asyncio", "datetime", "select", "subprocess"}
GENERATORS = {"Random", "SystemRandom", "default_rng", "PCG64"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the absolute name of everything that is imported, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the ring they name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ring_of(module: str) -> str:
    """Return the ring that ``pgmlite.ring.module.name`` is of."""
    ring = module.split(".")[1] if "." in module else ""
    return ring if ring in MAY_IMPORT else ""


def offences(ring: str, source: str) -> list[str]:
    """Return what a module of `ring` does that its ring may not."""
    tree = ast.parse(source)
    found = []
    for name in imports(tree):
        top = name.partition(".")[0]
        if top == "pgmlite":
            if ring_of(name) not in MAY_IMPORT[ring] | {ring}:
                found.append(f"imports {name}")
        elif ring in PURE and top in WORLD:
            found.append(f"imports {name}")
    for node in ast.walk(tree):
        if ring in PURE and isinstance(node, ast.Call) and not node.args and not node.keywords:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in GENERATORS:
                found.append(f"calls {name}() without a seed")
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES])
def test_module_keeps_to_its_ring(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    ring = "" if parts == ("__init__",) else parts[0]
    assert offences(ring, path.read_text()) == []


@pytest.mark.parametrize(
    ("ring", "source"),
    [
        ("core", "import time"),
        ("core", "import os.path"),
        ("wire", "from socket import AF_INET6"),
        ("sim", "def f():\n    import threading"),
        ("core", "from pgmlite.net.address import Channel"),
        ("core", "from pgmlite import sim"),
        ("wire", "from pgmlite.core import machine"),
        ("fec", "from pgmlite.wire.geometry import Geometry"),
        ("fec", "import threading"),
        ("net", "import pgmlite.sim.network"),
        ("sim", "if TYPE_CHECKING:\n    from pgmlite.net import loop"),
        ("errors", "import pgmlite"),
        ("core", "from random import Random\nrng = Random()"),
        ("sim", "import numpy\nrng = numpy.random.default_rng()"),
    ],
)
def test_offences_are_found(ring: str, source: str) -> None:
    assert len(offences(ring, source)) == 1


@pytest.mark.parametrize(
    ("ring", "source"),
    [
        ("net", "import socket, time, os\nfrom pgmlite.core.machine import MS"),
        ("cli", "from pgmlite import __version__\nfrom random import SystemRandom\nSystemRandom()"),
        ("core", "from random import Random\nrng = Random(1)"),
    ],
)
def test_what_is_allowed_is_not_an_offence(ring: str, source: str) -> None:
    assert offences(ring, source) == []
