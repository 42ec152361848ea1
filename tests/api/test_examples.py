"""The programs in README, and on the page for programs, do what these say."""

import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.loopback import BLOCK, PATIENCE, endpoint, environment, make_file, sending

ROOT = Path(__file__).parents[2]
PROGRAMS = [
    program
    for page in ("README.md", "spec/programs.md")
    for program in re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
]
SHORT, PLAIN, ASYNC = PROGRAMS


@pytest.fixture
def run(tmp_path):
    """Run a program in a folder, with other groups, and other words where needed."""

    def program(text: str, **others: str) -> subprocess.CompletedProcess[str]:
        for word, other in others.items():
            assert word in text, text
            text = text.replace(word, other)
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", text],
            cwd=tmp_path,
            env=environment({"PYTHONPATH": str(ROOT)}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return program


def at(text: str, *groups: str, port: int) -> str:
    """Return a program that listens elsewhere."""
    for number, group in enumerate(groups):
        shown = f'group="239.1.2.{3 + number}"'
        assert shown in text
        text = text.replace(shown, f'group="{group}", port={port}')
    return text


@pytest.mark.slow
def test_a_receiver_of_one_line(tmp_path, run):
    source, place = make_file(tmp_path / "source.bin", 2 * BLOCK), endpoint()
    with sending(source, place, rate="30M"):
        done = run(at(SHORT, place.group, port=place.port))
    assert (done.returncode, done.stderr) == (0, "")
    path, name, cycles = done.stdout.split()
    assert (path, name) == ("firmware.bin", "source.bin")
    assert 0.9 < float(cycles) < 2
    assert (tmp_path / "firmware.bin").read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_a_receiver_of_twenty_lines_shows_how_far_it_is(tmp_path, run):
    assert PLAIN.count("\n") <= 22
    source, place = make_file(tmp_path / "source.bin", 6 * BLOCK), endpoint()
    with sending(source, place, rate="15M"):
        done = run(at(PLAIN, place.group, port=place.port))
    assert (done.returncode, done.stderr) == (0, "")
    first, *progress, last = done.stdout.splitlines()
    assert first == f"source.bin, {6 * BLOCK} bytes"
    assert any(re.fullmatch(r"\d+% after \d+ s", line) for line in progress)
    assert re.fullmatch(r"copy.bin: \d\.\d\d cycles", last)
    assert (tmp_path / "copy.bin").read_bytes() == source.read_bytes()


def test_it_says_why_there_is_no_copy(run):
    place = endpoint()
    done = run(at(PLAIN, place.group, port=place.port).replace("timeout=60", "timeout=0.2"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no copy: timed out: no valid packet came to")


@pytest.mark.slow
@pytest.mark.parametrize("senders", [2, 1])
def test_two_objects_at_once_with_asyncio(tmp_path, run, senders):
    sources = [make_file(tmp_path / f"{n}.bin", 2 * BLOCK, seed=n) for n in range(2)]
    places = [endpoint(), endpoint()]
    port = places[0].port
    text = at(ASYNC, *(place.group for place in places), port=port)
    # One that never comes is given less time.
    text = text.replace("asyncio.timeout(120)", f"asyncio.timeout({120 if senders == 2 else 8})")
    with ExitStack() as running:
        for source, place in list(zip(sources, places, strict=True))[:senders]:
            there = replace(place, port=port)
            running.enter_context(sending(source, there, rate="30M"))
        done = run(text)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "firmware.bin").read_bytes() == sources[0].read_bytes()
    if senders == 2:
        assert done.stdout == "firmware.bin is 0.bin\n"
        assert (tmp_path / "maps.bin").read_bytes() == sources[1].read_bytes()
    else:
        assert done.stdout.startswith("cancelled")
        assert not (tmp_path / "maps.bin").exists()


@pytest.mark.slow
def test_ctrl_c_is_pythons_own(tmp_path):
    """Nothing takes it over: the program ends by it, and what came is kept."""
    source, place = make_file(tmp_path / "source.bin", 8 * BLOCK), endpoint()
    text = at(PLAIN, place.group, port=place.port)
    with (
        sending(source, place, rate="4M"),
        subprocess.Popen(
            [sys.executable, "-u", "-c", text],
            cwd=tmp_path,
            env=environment({"PYTHONPATH": str(ROOT)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        assert program.stdout.readline()
        assert "%" in program.stdout.readline()
        program.send_signal(signal.SIGINT)
        said = program.communicate(timeout=PATIENCE)[1]
    assert program.returncode == -signal.SIGINT
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert (tmp_path / "copy.bin.part").exists()
