"""The demonstration, as a newcomer runs it."""

import json
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "pgmlite", "demo"]


@pytest.mark.slow
def test_every_copy_is_equal():
    done = subprocess.run(
        [*COMMAND, "--json", "--size", "4"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rows = result["receivers"]
    assert [row["receiver"] for row in rows] == 3 * ["R1", "R2", "R3"]
    assert [row["mode"] for row in rows] == 3 * ["plain"] + 3 * ["fec"] + 3 * ["nak"]
    assert all(row["equal"] for row in rows)
    assert [row["joined"] for row in rows] == 3 * ["start", "start", "mid-cycle"]
    # The lossy ones really lost packets: the demonstration shows recovery, not luck.
    plain, fec, nak = (rows[at] for at in (1, 4, 7))
    assert min(row["lost"] for row in (plain, fec, nak)) > 0
    assert plain["cycles"] > 1.5
    assert max(fec["cycles"], nak["cycles"]) < plain["cycles"]
    assert [row["naks_sent"] > 0 for row in rows] == 7 * [False] + 2 * [True]
    assert set(result["object_lengths_sent"]) == {"plain", "fec", "nak"}


@pytest.mark.slow
def test_table_names_everything():
    done = subprocess.run(
        [*COMMAND, "--size", "1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    for word in (
        "receiver",
        "joined",
        "loss",
        "lost",
        "NAKs",
        "cycles",
        "time",
        "equal",
        "mid-cycle",
    ):
        assert word in done.stdout
    assert "loopback" in done.stderr


def test_unlimited_rate_is_refused():
    done = subprocess.run(
        [*COMMAND, "-r", "max"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "rate max" in done.stderr
