"""The house keeps to its measures: sizes, complexity, names, and what tests know of the inside."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgmlite

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(pgmlite.__file__).resolve().parent
CODE = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MOST_LINES = 500
"""Of a file."""

MOST_CLASS_LINES = 300
MOST_COMPLEX = 15
"""Ways through a function, as McCabe and radon count them."""

PARSING = {"pgmlite/cli/values.py"}
"""Where words of the command line are taken apart: lists of cases, no easier to read in pieces."""

ONE_MEANING = {"Counters", "State", "Event", "Loss", "Run", "Repairer"}
"""Names that once stood for two things."""

MOST_PRIVATE = 20
"""Private attributes of the product that tests read."""


def where(path: Path) -> str:
    """Return a path as it is named in this repository."""
    return str(path.relative_to(ROOT))


def complexity(function: ast.AST) -> int:
    """Return the ways through a function, those of functions inside it left out."""
    ways = 1
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
                continue
            case ast.If() | ast.IfExp() | ast.For() | ast.While() | ast.Assert():
                ways += 1
            case ast.ExceptHandler():
                ways += 1
            case ast.BoolOp():
                ways += len(node.values) - 1
            case ast.comprehension():
                ways += 1 + len(node.ifs)
            case ast.match_case():
                is_rest = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None
                ways += not is_rest
        waiting += ast.iter_child_nodes(node)
    return ways


def definitions(tree: ast.AST, kinds: tuple[type, ...]) -> Iterator[ast.AST]:
    """Yield the definitions of some kinds, at any depth."""
    yield from (node for node in ast.walk(tree) if isinstance(node, kinds))


def defined(tree: ast.Module) -> set[str]:
    """Return the names that a module gives to classes and values at its top level."""
    names = set()
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def own_attributes(sources: list[str]) -> set[str]:
    """Return the private attributes that tests themselves define, on objects of their own."""
    names = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                    names.add(name)
                case ast.FunctionDef(name=name):
                    names.add(name)
                case ast.AnnAssign(target=ast.Name(id=name)):
                    names.add(name)
    return {name for name in names if is_private(name)}


def is_private(name: str) -> bool:
    """Whether a name says that it is nobody else's."""
    return name.startswith("_") and not name.startswith("__")


STANDARD = {"_asdict", "_replace", "_fields", "_make", "_exit"}
"""Public, whatever they look like: of named tuples, and `os._exit`."""


def private_reads(source: str, own: set[str]) -> list[str]:
    """Return the private attributes of others that a test reads, patches or sets.

    Args:
        own: What tests define themselves.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name):
                pass
            case ast.Call(
                func=ast.Attribute(attr="setattr" | "object") | ast.Name(id="getattr" | "setattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ):
                pass
            case _:
                continue
        if is_private(name) and name not in own | STANDARD:
            found.append(f"{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("path", CODE + TESTS, ids=where)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_no_class_is_too_long() -> None:
    found = {
        f"{where(path)}: {one.name}": one.end_lineno - one.lineno + 1
        for path in CODE
        for one in definitions(ast.parse(path.read_text()), (ast.ClassDef,))
    }
    assert not {name: lines for name, lines in found.items() if lines > MOST_CLASS_LINES}


def test_no_function_has_too_many_ways_through_it() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {
        f"{where(path)}: {one.name}": complexity(one)
        for path in CODE
        if where(path) not in PARSING
        for one in definitions(ast.parse(path.read_text()), kinds)
    }
    assert not {name: ways for name, ways in found.items() if ways > MOST_COMPLEX}


def test_a_name_means_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in CODE:
        for name in defined(ast.parse(path.read_text())) & ONE_MEANING:
            places[name].append(where(path))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_the_places_that_a_newcomer_is_sent_to_are_there() -> None:
    text = (ROOT / "spec" / "house.md").read_text().partition("| to change | look in |")[2]
    named = re.findall(r"`([a-z_/]+\.py)`", text.partition("\n\n")[0])
    assert len(named) > 20
    assert not [name for name in named if not (PACKAGE / name).is_file()]


def test_tests_hardly_look_inside() -> None:
    sources = {path: path.read_text() for path in TESTS}
    own = own_attributes(list(sources.values()))
    found = [f"{where(path)}:{one}" for path in TESTS for one in private_reads(sources[path], own)]
    assert len(found) <= MOST_PRIVATE, "\n".join(found)


# The measures measure.


@pytest.mark.parametrize(
    ("body", "ways"),
    [
        ("pass", 1),
        ("if a: pass", 2),
        ("if a and b or c: pass", 4),
        ("for x in y: pass\n    while z: pass", 3),
        ("try: pass\n    except A: pass\n    except B: pass", 3),
        ("return [x for x in y if x]", 3),
        ("return a if b else c", 2),
        ("match a:\n        case 1: pass\n        case 2: pass\n        case _: pass", 3),
        ("def inner():\n        if a: pass\n    return inner", 1),
    ],
)
def test_ways_through_a_function_are_counted(body: str, ways: int) -> None:
    (function,) = ast.parse(f"def f():\n    {body}").body
    assert complexity(function) == ways


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("machine._cycles", 1),
        ("machine._naks._cycles[3].state", 2),
        ("machine._own", 0),
        ("self._anything", 0),
        ("self.machine._cycles", 1),
        ("machine.__class__", 0),
        ("row._replace(a=1)", 0),
        ("monkeypatch.setattr(loop, '_machine', None)", 1),
        ("patch.object(Transfer, '_limit')", 1),
        ("getattr(loop, '_machine')", 1),
    ],
)
def test_looks_inside_are_counted(source: str, count: int) -> None:
    own = own_attributes(["class A:\n    def __init__(self): self._own = 1"])
    assert len(private_reads(source, own)) == count
