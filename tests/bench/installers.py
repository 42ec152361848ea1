"""The recipes with the installers themselves, under systemd, in the units with their drop-ins.

    python -m tests.bench.installers

A device has RAUC and SWUpdate running, and receivers as `spec/recipes.md` says. A server signs a
bundle and an image and sends both. Each installer has to say that it is done, and what it wrote has
to be what was in them. Needs root, `rauc rauc-service swupdate dbus squashfs-tools cpio openssl`,
and that nobody else has the machine's loop devices. Exit code 1 if something was not installed.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import pgmlite
from tests.support import process_one

ROOT = Path(__file__).resolve().parents[2]
UNITS = Path(pgmlite.__file__).parent / "share" / "systemd"
SYSTEM = Path("/lib/systemd/system")
PROGRAMS = ("rauc", "swupdate", "dbus-daemon", "mksquashfs", "cpio", "openssl")

INSTALLERS = {"rauc": ("update.raucb", 28_775), "swupdate": ("update.swu", 28_776)}
"""Names of recipes; what they receive, and on which port: both are sent to one group."""

SWUPDATE = """
[Service]
Type=exec
ExecStart=swupdate -v -k /run/trial/c.pem -p 'touch /run/trial/after' -H board:1
"""

RAUC = """
[Service]
ExecStart=
ExecStart=rauc --mount=/run/rauc --override-boot-slot=A service
"""
"""What it was started from it can't tell here."""

SLOTS = """
[system]
compatible=board
bootloader=noop
[keyring]
path=/run/trial/c.pem
[slot.rootfs.0]
device=/run/trial/slot-a
type=raw
bootname=A
[slot.rootfs.1]
device=/run/trial/slot-b
type=raw
bootname=B
"""

SCRIPT = """
mkdir -p /srv/pgmlite /etc/pgmlite/keys in
openssl req -x509 -newkey rsa:2048 -nodes -keyout k.key -out c.pem -days 30 -subj /CN=maker \
    -addext extendedKeyUsage=emailProtection,codeSigning
head -c 2000000 /dev/urandom > in/rootfs.img
head -c 700000 /dev/urandom > image.bin
truncate -s 2000000 slot-a slot-b
cat > in/manifest.raucm <<END
[update]
compatible=board
version=1
[image.rootfs]
filename=rootfs.img
END
rauc --cert c.pem --key k.key bundle in /srv/pgmlite/update.raucb
cat > sw-description <<END
software = {
    version = "1.0";
    hardware-compatibility = [ "1" ];
    files: ( {
        filename = "image.bin";
        path = "/run/trial/target";
        sha256 = "$(sha256sum image.bin | cut -d' ' -f1)";
    } );
}
END
openssl cms -sign -in sw-description -out sw-description.sig -signer c.pem -inkey k.key \
    -outform DER -nosmimecap -binary
printf '%s\\n' sw-description sw-description.sig image.bin | cpio -o -H crc \
    > /srv/pgmlite/update.swu
pgmlite keygen k.pem
cp k.pub.pem /etc/pgmlite/keys
for file in update.raucb update.swu; do
    pgmlite sign /srv/pgmlite/$file --key k.pem --stream acme/x1 --release 17
done
chmod -R a+rX /srv/pgmlite /etc/pgmlite
systemctl start dbus.socket dbus swupdate
systemctl start pgmlite-send@rauc pgmlite-send@swupdate pgmlite-recv@rauc pgmlite-recv@swupdate
for name in rauc swupdate; do
    for n in $(seq 300); do
        grep -q ': done in\\|: warning: --on-complete' recv-$name.log && break
        sleep 0.1
    done
    grep -q ': done in' recv-$name.log && echo $name=done
done
cmp in/rootfs.img slot-b && echo rauc_wrote=all
cmp image.bin target && [ -e after ] && echo swupdate_wrote=all
systemctl stop pgmlite-recv@rauc pgmlite-recv@swupdate pgmlite-send@rauc pgmlite-send@swupdate
"""

WANTED = {"rauc": "done", "swupdate": "done", "rauc_wrote": "all", "swupdate_wrote": "all"}


def main() -> int:
    """Run it; return 0 if both installed what was sent."""
    reason = process_one.missing() or ", ".join(one for one in PROGRAMS if not shutil.which(one))
    if reason:
        print(f"missing: {reason}")
        return 1
    units = {path.name: path.read_text() for path in UNITS.iterdir()}
    units |= {name: (SYSTEM / name).read_text() for name in ("dbus.socket", "dbus.service")}
    units["sockets.target"] = "[Unit]\nDefaultDependencies=no\n"
    units["rauc.service"] = (SYSTEM / "rauc.service").read_text()
    units["rauc.service.d/bench.conf"] = RAUC
    units["swupdate.service"] = SWUPDATE
    for name in ("rauc", "swupdate"):
        units[f"{name}.service.d/log.conf"] = process_one.LOG.format(name=name)
    for verb in ("recv", "send"):
        units[f"pgmlite-{verb}@.service.d/log.conf"] = process_one.LOG.format(name=f"{verb}-%i")
    etc = {"rauc/system.conf": SLOTS}
    recipes = (ROOT / "spec" / "recipes.md").read_text()
    for name, (file, port) in INSTALLERS.items():
        recipe = recipes.split(f"`/etc/pgmlite/{name}.toml`")[1]
        etc[f"pgmlite/{name}.toml"] = f"{_block('toml', recipe)}port = {port}\n"
        units[f"pgmlite-recv@{name}.service.d/recipe.conf"] = _block("ini", recipe)
        etc[f"pgmlite/{name}.env"] = (
            f"PGMLITE_FILE=/srv/pgmlite/{file}.pglm\n"
            f"PGMLITE_INTERFACE=eth0\nPGMLITE_RATE=50M\nOPTIONS=--port {port}\n"
        )
    with tempfile.TemporaryDirectory(prefix="installers.") as folder:
        said = process_one.run(Path(folder), units, etc, SCRIPT, limit=90)
        logs = {path.name: path.read_text() for path in sorted(Path(folder).glob("*.log"))}
    for name, what in said.values.items():
        print(f"{name}: {what}")
    if said.values == WANTED:
        return 0
    for name, text in {**logs, "the rest": said.logs}.items():
        print(f"== {name}\n{text[-3_000:]}")
    return 1


def _block(language: str, text: str) -> str:
    """Return the first block of code in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)[:1]
    return str(found)


if __name__ == "__main__":
    sys.exit(main())
