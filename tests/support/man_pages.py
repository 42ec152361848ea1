"""Manual pages from the command line: one of pgmlite, and one of each verb."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import pairwise

from pgmlite import __version__
from pgmlite.cli.codes import MEANINGS
from tests.support.command_line import Parameter, Verb, command, verbs

ABOUT = """\
A sender loops one file, or one folder as an archive, for ever as UDP packets to a multicast group.
It accepts no connection, and without --repair it reads nothing from the network: one receiver or a
million cost the same. Receivers join at any time, keep whatever comes past, and put the file in
place when every block matches its digest.

Nothing has to be set up: `pgmlite send FILE -i eth0` on one machine, and `pgmlite recv -o FILE -i
eth0` on as many others as want it. Each verb has a page of its own.
"""

VARIABLES = {
    "PGMLITE_STATE": "The folder for what is remembered of releases and followers; else "
    "$STATE_DIRECTORY, which systemd sets, else $XDG_STATE_HOME/pgmlite, else "
    "~/.local/state/pgmlite.",
    "TMPDIR": "The folder for repair symbols of several channels and for spools; else /var/tmp.",
    "COLUMNS": "How wide tables and lines are; else as the terminal says.",
    "NO_COLOR": "Set to anything: no colours.",
}
"""What is read beside the variables of options."""

FILES = {
    "PATH.part, PATH.part.map": "What a receiver has so far of PATH, and the record of what lies "
    "where. The next recv of PATH goes on from there.",
    "PATH.pgmlite": "What was put in place at PATH, and whether its command has run.",
    "FILE.pglm": "The manifest of FILE, its signatures, and the digests of its packets.",
    "K.pem, K.pub.pem": "A private key, to sign with, and its public one, for receivers.",
}

SPECIAL = {"\\": r"\e", "~": r"\(ti", "^": r"\(ha", "`": r"\(ga", "'": r"\(aq"}

MARKED = re.compile(r"`([^`]+)`|(?<![\w.-])--?[a-z][a-z-]*(?<!-)|\$?PGMLITE_[A-Z_]+")
"""What is set in bold: between backticks, options, variables."""


def plain(text: str) -> str:
    """Return text that is set as it stands, hyphens as those that are typed."""
    return "".join(SPECIAL.get(letter, letter) for letter in text).replace("-", r"\-")


def _bold(text: str) -> str:
    return rf"\fB{plain(text)}\fR"


def running(text: str) -> str:
    """Return a sentence: what is between backticks, and options, in bold."""
    parts, at = [], 0
    for found in MARKED.finditer(text):
        parts.append(_prose(text[at : found.start()]))
        parts.append(_bold(found[1] or found[0]))
        at = found.end()
    return "".join([*parts, _prose(text[at:])])


def _prose(text: str) -> str:
    # A hyphen between letters joins words; any other is typed.
    marked = re.split(r"(?<=\w)-(?=\w)", text)
    return "-".join(plain(part) for part in marked)


def _line(text: str) -> str:
    """Return a line of text, which troff would else take for a request if it began with a dot."""
    return rf"\&{text}" if text.startswith(".") else text


def _lines(text: str) -> Iterator[str]:
    """Yield running text in lines that an editor shows."""
    broken = textwrap.wrap(running(text), 80, break_long_words=False, break_on_hyphens=False)
    yield from map(_line, broken)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the lines of paragraphs, and of blocks that are shown as they stand."""
    for block in text.split("\n\n"):
        if block.startswith("\b"):
            yield from _shown(block.splitlines()[1:])
        elif block.strip():
            yield ".PP"
            yield from _lines(" ".join(block.split()))


def _shown(lines: Iterable[str]) -> Iterator[str]:
    """Yield a block of lines: those that are indented are commands, the others words about them."""
    inside = False
    for line in lines:
        if not line.strip():
            continue
        is_command = line.startswith("  ")
        if is_command and not inside:
            yield from (".PP", ".RS 4", ".EX")
        elif inside and not is_command:
            yield from (".EE", ".RE")
        inside = is_command
        if is_command:
            yield _line(plain(line[2:].rstrip()))
        else:
            yield from (".PP", *_lines(line))
    if inside:
        yield from (".EE", ".RE")


def sentences(option: Parameter) -> str:
    """Return what an option does, with its default, its limits and its variable."""
    said = [option.help]
    match option.least, option.most:
        case None, None:
            pass
        case least, None:
            said.append(f"{least} or more.")
        case None, most:
            said.append(f"{most} at most.")
        case least, most:
            said.append(f"From {least} to {most}.")
    if option.default:
        said.append(f"Default: {option.default}.")
    if option.variable:
        said.append(f"Environment: {option.variable}.")
    return " ".join(said)


def _entry(head: str, text: str) -> list[str]:
    return [".TP", head, *_lines(text)]


def options(given: Iterable[Parameter]) -> Iterator[str]:
    """Yield the lines of options."""
    for option in given:
        head = ", ".join(_bold(name) for name in option.names)
        if option.value:
            head += rf" \fI{plain(option.value)}\fR"
        yield from _entry(head, sentences(option))


def exit_status() -> Iterator[str]:
    """Yield the lines of the exit codes."""
    yield ".SH EXIT STATUS"
    for code, meaning in MEANINGS.items():
        yield from _entry(rf"\fB{code}\fR", meaning)


def environment(of: Iterable[tuple[str, Iterable[Parameter]]]) -> Iterator[str]:
    """Yield the lines of variables, given each verb and its options."""
    users: dict[str, dict[str, list[str]]] = {}
    for verb, given in of:
        for option in given:
            if option.variable:
                names = users.setdefault(option.variable, {})
                names.setdefault(option.names[-1], []).append(verb)
    yield ".SH ENVIRONMENT"
    yield from (".PP", "An option on the command line wins.")
    for variable in sorted(users):
        said = [f"{name} of {', '.join(verb)}" for name, verb in users[variable].items()]
        yield from _entry(_bold(variable), f"{'; '.join(said)}.")
    for variable, text in VARIABLES.items():
        yield from _entry(_bold(variable), text)


def _head(name: str) -> list[str]:
    return [
        r".\" Written by tests/generate.py from the command line: do not edit.",
        f'.TH {plain(name.upper())} 1 "" "pgmlite {__version__}" "pgmlite"',
        ".nh",  # names of variables and options are to be found, and copied
        ".ad l",
    ]


def _see(*pages: str) -> list[str]:
    names = [rf"\fB{plain(page)}\fR(1)" for page in pages]
    return [".SH SEE ALSO", *(f"{name}," for name in names[:-1]), names[-1]]


def _name(name: str, summary: str) -> list[str]:
    """Return what `whatis` and `apropos` know of a page: one line."""
    said = summary[0].lower() + summary[1:].replace("`", "")
    return [".SH NAME", rf"{plain(name)} \- {_prose(said)}"]


def _joined(lines: list[str]) -> str:
    """Return a page of its lines; the first paragraph below a heading needs no macro."""
    kept = [b for a, b in pairwise(["", *lines]) if b != ".PP" or not a.startswith(".SH")]
    return "\n".join([*kept, ""])


def page_of(verb: Verb) -> str:
    """Return the page of a verb."""
    name = f"pgmlite-{verb.name}"
    lines = [*_head(name), *_name(name, verb.summary)]
    lines += [".SH SYNOPSIS", rf"\fBpgmlite {verb.name}\fR {plain(' '.join(verb.usage))}"]
    lines += [".SH DESCRIPTION", *paragraphs(verb.text)]
    lines += [".SH OPTIONS", *options(verb.options)]
    lines += exit_status()
    if verb.epilog:
        # Its own heading would stand below ours.
        lines += [".SH EXAMPLES", *paragraphs(verb.epilog.replace("\b\nExamples:\n", "\b\n", 1))]
    return _joined([*lines, *_see("pgmlite")])


def main_page(known: list[Verb]) -> str:
    """Return the page of the command."""
    about = command()
    lines = [*_head("pgmlite"), *_name("pgmlite", about.summary)]
    lines += [".SH SYNOPSIS", r"\fBpgmlite\fR \fIVERB\fR [OPTION]... [ARGUMENT]"]
    lines += [".SH DESCRIPTION", *paragraphs(ABOUT)]
    lines.append(".SH VERBS")
    for verb in known:
        lines += _entry(rf"\fBpgmlite\-{verb.name}\fR(1)", f"{verb.summary}.")
    lines += [".SH OPTIONS", *options(about.options)]
    lines += exit_status()
    lines += environment([(verb.name, verb.options) for verb in known])
    lines.append(".SH FILES")
    for path, text in FILES.items():
        lines += _entry(rf"\fI{plain(path)}\fR", text)
    return _joined([*lines, *_see(*(f"pgmlite-{verb.name}" for verb in known))])


def pages() -> dict[str, str]:
    """Return the pages by the names of their files."""
    known = verbs()
    made = {"pgmlite.1": main_page(known)}
    return made | {f"pgmlite-{verb.name}.1": page_of(verb) for verb in known}
