"""systemd as process 1 of namespaces of its own, which starts nothing but the units it is given.

It sees a network, logs, state and temporary files of its own; of this machine's units none.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.support.loopback import until

SYSTEMD = Path("/lib/systemd/systemd")

PROJECT = Path(__file__).parents[2]

LEAVE = 5.0
"""Seconds for all to be gone once the time is up."""

NAMESPACES = (
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--mount",
    "--net",
    "--cgroup",
    "--ipc",
    "--uts",
)

TARGETS = ("sysinit", "basic", "multi-user", "network-online", "shutdown")
"""What units are ordered by; each is empty here."""

PREPARE = """
set -e
mount --make-rprivate /
# What it would set for the whole kernel is not its own.
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
# What is below /tmp or a home is hidden from units; what they run must not be.
mount -t tmpfs tmpfs /run
mkdir -p /run/units /run/trial /run/python /run/project /run/packages /run/commands /run/lock
mount --bind {work} /run/trial
mount --bind {python} /run/python
mount --bind {project} /run/project
mount --bind {packages} /run/packages
mount -t tmpfs tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /var/log
mount -t tmpfs -o mode=755 tmpfs /srv
cp -a /etc /run/etc
mount --bind /run/etc /etc
cp -r /run/trial/etc/. /etc
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/pgmlite-{id}
echo $$ > /sys/fs/cgroup/pgmlite-{id}/cgroup.procs
cat > /run/commands/pgmlite <<'END'
#!/bin/sh
export LD_LIBRARY_PATH=/run/python/lib PYTHONPATH=/run/project:/run/packages
export PYTHONDONTWRITEBYTECODE=1
exec /run/python/bin/python3 -m pgmlite "$@"
END
chmod 755 /run/commands/pgmlite
mount --bind /run/commands /usr/local/bin
for name in {targets}; do
    printf '[Unit]\\nDescription=%s\\nDefaultDependencies=no\\n' $name > /run/units/$name.target
done
cp -r /run/trial/units/. /run/units
ip link add eth0 type veth peer name eth1
ip link set lo up
ip link set eth1 up
ip link set eth0 up
container=pgmlite SYSTEMD_UNIT_PATH=/run/units exec {systemd} --system --unit=test.target \
    --log-target=console --show-status=no
"""

CLEAR = """
set -e
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for n in $(seq 100); do
    [ ! -e /sys/fs/cgroup/pgmlite-{id} ] && exit
    # What was in it may still be on its way out.
    find /sys/fs/cgroup/pgmlite-{id} -depth -type d -delete 2>/dev/null || sleep 0.1
done
exit 1
"""

TEST = """
[Unit]
Description=The test
DefaultDependencies=no
Wants=test.service
"""

SERVICE = """
[Unit]
Description=The test
DefaultDependencies=no
[Service]
Type=oneshot
WorkingDirectory=/run/trial
ExecStart=bash -x test.sh
ExecStopPost=touch over
TimeoutStartSec={limit}
StandardOutput=append:/run/trial/said
StandardError=append:/run/trial/log
"""


LOG = """
[Service]
StandardOutput=append:/run/trial/{name}.log
StandardError=append:/run/trial/{name}.log
"""
"""A drop-in: what a unit says is found in the folder of the work."""


class Said(NamedTuple):
    """What was said.

    Attributes:
        values: By the script, line by line, as ``NAME=VALUE``.
        logs: By systemd and the shell.
    """

    values: dict[str, str]
    logs: str


@cache
def missing() -> str:
    """Return why systemd can't be process 1 of anything here; empty: it can."""
    if not SYSTEMD.exists():
        return "systemd is not installed"
    if not shutil.which("unshare"):
        return "unshare is not installed"
    script = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    done = subprocess.run(
        ["unshare", *NAMESPACES, "sh", "-c", script], capture_output=True, text=True, timeout=60
    )
    return done.stderr.strip()


def run(
    work: Path, units: Mapping[str, str], etc: Mapping[str, str], script: str, *, limit: int
) -> Said:
    """Let systemd start a script, which may start units.

    Args:
        work: A folder, which the script finds as /run/trial; it starts there.
        units: What to write in /run/units, by names; `etc`: in /etc.
        script: For bash.
        limit: Seconds; then all of it ends.

    Returns:
        What the script said.

    Raises:
        AssertionError: It did not come to its end.
    """
    ours = {"test.target": TEST, "test.service": SERVICE.format(limit=limit)}
    for folder, files in (("units", {**units, **ours}), ("etc", etc)):
        for name, text in files.items():
            path = work / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (work / "test.sh").write_text(script)
    prepare = PREPARE.format(
        work=work,
        python=sys.base_prefix,
        project=PROJECT,
        packages=site.getsitepackages()[0],
        targets=" ".join(TARGETS),
        systemd=SYSTEMD,
        id=os.getpid(),
    )
    over = work / "over"
    try:
        with (work / "systemd").open("wb") as log:
            process = subprocess.Popen(
                ["unshare", *NAMESPACES, "bash", "-c", prepare],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                # It never ends by itself.
                until(lambda: over.exists() or process.poll() is not None, limit + LEAVE)
            finally:
                process.kill()
                process.wait()
    finally:
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", CLEAR.format(id=os.getpid())], check=True, timeout=60
        )
    logs = "\n".join(
        path.read_text(errors="replace")
        for path in (work / "systemd", work / "log")
        if path.exists()
    )
    assert over.exists(), logs
    lines = (work / "said").read_text().splitlines()
    return Said(dict(line.split("=", 1) for line in lines if "=" in line), logs)
