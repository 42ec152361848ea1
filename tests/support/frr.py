"""FRR for routed labs: router daemons that speak PIM, MLDv2 and IGMPv3.

    python -m tests.support.frr

fetches them, 34 MB, into a folder of their own: Debian 13's packages, from the mirror that this
machine's apt uses. Nothing of the machine changes. `PGMLITE_FRR` names another folder. Where an FRR
with pim6d is installed, as on Debian 13 after `apt install frr`, that one is used instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

RELEASE = "trixie"
"""Debian's first with pim6d, which IPv6 needs."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DAEMONS = "usr/lib/frr"
USER = 907
"""Who the daemons are in a folder of their own: any number."""


def root() -> Path:
    """Return where FRR is, or will be: the root of its files."""
    if Path("/", DAEMONS, "pim6d").exists():
        return Path("/")
    return Path(os.environ.get("PGMLITE_FRR", "/var/cache/pgmlite-frr"))


def missing() -> str:
    """Return why routed labs can't run, as a sentence; empty if they can."""
    if Path(root(), DAEMONS, "pim6d").exists():
        return ""
    return f"There is no FRR in {root()}; python -m tests.support.frr fetches it."


def owner() -> tuple[int, int]:
    """Return the user and group that the daemons become."""
    lines = Path(root(), "etc/passwd").read_text().splitlines()
    fields = next(line.split(":") for line in lines if line.startswith("frr:"))
    return int(fields[2]), int(fields[3])


def mirror() -> str:
    """Return the address of this machine's Debian mirror."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    own = [address for address in found if "security" not in address]
    if not own:
        sys.exit("apt knows no mirror of Debian, from which FRR would come")
    return own[0]


def fetch(folder: Path) -> None:
    """Fetch FRR and all that it needs into a folder, which appears when it is whole."""
    apt = folder.with_name(folder.name + ".apt")
    new = folder.with_name(folder.name + ".new")
    for rest in (apt, new):
        shutil.rmtree(rest, ignore_errors=True)
    for part in ("state/lists/partial", "cache/archives/partial"):
        Path(apt, part).mkdir(parents=True)
    Path(apt, "status").touch()
    line = f"deb [signed-by={KEYRING}] {mirror()} {RELEASE} main\n"
    Path(apt, "sources.list").write_text(line)
    settings = {
        "Dir::State": f"{apt}/state",
        "Dir::State::status": f"{apt}/status",
        "Dir::Cache": f"{apt}/cache",
        "Dir::Etc::sourcelist": f"{apt}/sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Sandbox::User": "root",
    }
    text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
    Path(apt, "conf").write_text(text)
    environment = os.environ | {"APT_CONFIG": f"{apt}/conf"}
    install = ["install", "-y", "-q", "--no-install-recommends", "--download-only"]
    for command in (["update", "-q"], [*install, "frr", "bash", "coreutils"]):
        subprocess.run(["apt-get", *command], check=True, env=environment)
    for package in sorted(Path(apt, "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(new)], check=True)
    # What the packages' scripts would do.
    users = f"root:x:0:0::/root:/bin/sh\nfrr:x:{USER}:{USER}::/nonexistent:/bin/false\n"
    groups = f"root:x:0:\nfrr:x:{USER}:frr\nfrrvty:x:{USER + 1}:frr\n"
    Path(new, "etc/passwd").write_text(users)
    Path(new, "etc/group").write_text(groups)
    Path(new, "var/run").rmdir()
    Path(new, "var/run").symlink_to("/run")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    shutil.rmtree(apt)


def main() -> None:
    """Fetch FRR unless it is there."""
    if missing():
        fetch(root())
    print(f"FRR is in {root()}")


if __name__ == "__main__":
    main()
