"""The units of the package, started by a real systemd: hardened as they are, they do their work."""

from __future__ import annotations

from pathlib import Path

import pytest

import pgmlite
from tests.support import process_one

UNITS = Path(pgmlite.__file__).parent / "share" / "systemd"

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(process_one.missing()), reason=process_one.missing()),
]

CONFIG = """
[firmware]
output = "/var/lib/pgmlite/fleet/firmware.bin"
interface = "eth0"
on-complete = "sh /etc/pgmlite/hook"
"""

HOOK = """
touch /srv/new && touch $PGMLITE_PATH.out
echo ran >> $PGMLITE_PATH.ran
"""

ENVIRONMENT = """
PGMLITE_FILE=/srv/pgmlite/firmware.bin
PGMLITE_INTERFACE=eth0
PGMLITE_RATE=20M
OPTIONS=--repair
"""

SCRIPT = """
# Both wait for an address that can be used.
for n in $(seq 100); do ip -6 address show dev eth0 tentative | grep -q . || break; sleep 0.1; done
mkdir /srv/pgmlite
ran() { wc -l < /var/lib/pgmlite/fleet/firmware.bin.ran; }
there() {
    for n in $(seq 150); do
        cmp -s /srv/pgmlite/firmware.bin /var/lib/pgmlite/fleet/firmware.bin \\
            && [ "$(ran)" = $1 ] && return
        sleep 0.1
    done
    return 1
}
replace() {
    head -c 400000 /dev/urandom > /srv/pgmlite/new
    mv /srv/pgmlite/new /srv/pgmlite/firmware.bin
}
replace
systemctl start pgmlite-recv@fleet pgmlite-send@fleet && echo started=yes
there 1 && echo first=yes
systemctl reload pgmlite-recv@fleet && echo reloaded=yes
replace
there 2 && echo second=yes
for n in $(seq 150); do
    status=$(systemctl show --value -p StatusText pgmlite-recv@fleet)
    [ "$status" = "firmware: firmware.bin in place; waiting" ] && echo status=yes && break
    sleep 0.1
done
# One that hangs is started again, and what is in place is not taken again.
systemctl kill --kill-whom=main --signal=STOP pgmlite-recv@fleet
for n in $(seq 150); do
    [ "$(systemctl show --value -p NRestarts pgmlite-recv@fleet)" = 1 ] && break
    sleep 0.1
done
echo restarts=$(systemctl show --value -p NRestarts pgmlite-recv@fleet)
replace
there 3 && echo third=yes
systemctl stop pgmlite-recv@fleet pgmlite-send@fleet
for name in recv send; do
    echo $name=$(systemctl show --value -p Result,ExecMainStatus,NRestarts pgmlite-$name@fleet)
done
echo hooks=$(ran)
[ -e /var/lib/pgmlite/fleet/firmware.bin.out ] || echo kept_in=yes
[ "$(stat -c %u /var/lib/private/pgmlite/fleet/firmware.bin)" = 0 ] || echo not_root=yes
"""


def test_both_do_their_work_under_systemd(tmp_path: Path) -> None:
    hung = "WatchdogSec=5s\nRestartSec=100ms\n"
    units = {path.name: path.read_text() for path in UNITS.iterdir()}
    for name in ("recv", "send"):
        units[f"pgmlite-{name}@.service.d/log.conf"] = process_one.LOG.format(name=name) + hung
    said = process_one.run(
        tmp_path,
        units,
        {"pgmlite/fleet.toml": CONFIG, "pgmlite/fleet.env": ENVIRONMENT, "pgmlite/hook": HOOK},
        SCRIPT,
        limit=60,
    )
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in ("recv", "send")}
    assert said.values == {
        "started": "yes",
        "first": "yes",
        "reloaded": "yes",
        "second": "yes",
        "status": "yes",
        "restarts": "1",
        "third": "yes",
        "recv": "success 0 0",
        "send": "success 0 0",
        "hooks": "3",
        "kept_in": "yes",
        "not_root": "yes",
    }, (said.logs, logs)
    assert "Read-only file system" in logs["recv"], "the hook can write nowhere else"
