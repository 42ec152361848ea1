"""Several receivers in one process, of one file: what ends one is said while the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.following import service_manager
from tests.support.loopback import Running, endpoint, run

TABLES = """
interface = "lo"
[broken]
output = "{folder}/broken"
port = 99999
[late]
output = "{folder}/late"
group = "{place.group}"
port = {place.port}
timeout = "1s"
[stays]
output = "{folder}/stays"
group = "{place.group}"
port = {place.port}
follow = true
"""


@pytest.mark.slow
def test_what_ends_one_is_said_at_once_and_once(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(TABLES.format(folder=tmp_path, place=endpoint()))
    config.chmod(0o600)
    with service_manager(tmp_path) as manager:
        env = {"NOTIFY_SOCKET": manager.address}
        with Running("recv", "--config", config, "--json", env=env) as receiver:
            for job, code in (("broken", 2), ("late", 5)):
                failed = receiver.event("failed", lambda event, job=job: event.get("job") == job)
                assert failed["exit_code"] == code
            manager.hears("READY=1")
            ended = receiver.stop()
    assert [one["job"] for one in ended.events if one["event"] == "failed"] == ["broken", "late"]
    (stopped,) = [one for one in ended.events if one["event"] == "stopped"]
    assert stopped["job"] == "stays"


@pytest.mark.slow
def test_people_are_told_of_each_by_its_name(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    tables, _, _ = TABLES.format(folder=tmp_path, place=endpoint()).partition("[stays]")
    config.write_text(tables)
    config.chmod(0o600)
    ended = run("recv", "--config", config)
    assert ended.code == 5
    assert "broken: port 99999: must be 1 to 65535" in ended.stderr
    assert any(line.startswith("late: timed out") for line in ended.stderr)
