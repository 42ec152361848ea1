"""Units of systemd: they are right, hardened, and what they start is told of."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pgmlite
from tests.support.following import Air, service_manager, version
from tests.support.loopback import Running, endpoint

UNITS = Path(pgmlite.__file__).parent / "share" / "systemd"
NAMES = ["pgmlite-recv@.service", "pgmlite-send@.service"]

MOST_EXPOSED = 1.5
"""What `systemd-analyze security` says is 10 of a unit without any limit, 2 and less is fine."""

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not there"
)


@pytest.fixture
def unit(tmp_path):
    """Return a unit with a program that is there."""

    def write(name: str) -> Path:
        path = tmp_path / name
        text = (UNITS / name).read_text()
        path.write_text(text.replace("=pgmlite ", f"={sys.executable} -m pgmlite "))
        return path

    return write


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def command_of(name: str, **specifiers: str) -> list[str]:
    """Return what a unit starts."""
    (line,) = re.findall(r"^ExecStart=pgmlite (.*)$", (UNITS / name).read_text(), re.MULTILINE)
    for key, value in specifiers.items():
        line = line.replace(key, value)
    return line.split()


def test_both_are_in_the_package() -> None:
    assert sorted(path.name for path in UNITS.iterdir()) == NAMES


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_has_nothing_to_say_against_it(unit, name) -> None:
    done = analyze("verify", "--man=no", unit(name))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_it_is_hardened(unit, name) -> None:
    done = analyze("security", "--offline=true", "--no-pager", unit(name))
    (exposure,) = re.findall(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    print(name, exposure)
    assert float(exposure) <= MOST_EXPOSED, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_it_starts_says_that_it_is_ready_and_ends_well(tmp_path, name) -> None:
    place = endpoint()
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "i.toml").write_text(f'[i]\noutput = "{tmp_path}/out"\n')
    words = command_of(
        name,
        **{
            "/etc/pgmlite/%i.toml": str(tmp_path / "i.toml"),
            "$OPTIONS": "--rate 1M",
            "${PGMLITE_FILE}": str(tmp_path / "file"),
        },
    )
    with service_manager(tmp_path) as manager:
        env = {
            "NOTIFY_SOCKET": manager.address,
            "WATCHDOG_USEC": "1000000",
            "STATE_DIRECTORY": str(tmp_path / "state"),
            "PGMLITE_GROUP": place.group,
            "PGMLITE_PORT": str(place.port),
            "PGMLITE_INTERFACE": "lo",
        }
        with Air(place, version(1)), Running(*words, env=env) as process:
            manager.hears("READY=1")
            wanted = "STATUS=i: v1 in place" if "recv" in name else "STATUS=sending file"
            manager.hears(wanted)
            process.say(signal.SIGHUP) if "recv" in name else None
            ended = process.stop()
            manager.hears("STOPPING=1")
    assert ended.code == 0, ended.stderr
    assert not ended.lines
    assert manager.said.count("WATCHDOG=1") >= 1
