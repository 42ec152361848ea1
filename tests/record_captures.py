"""Records ``captures/`` anew: real transfers in a network of namespaces, seen by tcpdump.

    python -m tests.record_captures [NAME...]

Needs root and what `lab.missing` looks for. Times, losses and random numbers differ each time; the
objects do not. Writes ``captures/NAME.pcap``, ``index.json`` and the table of ``README.md``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.archives import archive_of, small_folder
from tests.support.captures_page import readme
from tests.support.lab import GROUPS, PATIENCE, PGMLITE, PORT, Lab, Process, missing, until
from tests.support.signed import make_signed, private_key
from tests.support.vectors import SMALL

HERE = Path(__file__).resolve().parent
SUPPORT = HERE / "support"
CAPTURES = HERE.parent / "captures"
SIGNED_VECTORS = HERE.parent / "spec" / "vectors" / "signed.json"
LARGEST = 300_000
"""Bytes of a capture, at most."""

PLAIN = ("--fec", "off", "--order", "blocks")
"""Options of a sender without repair symbols, symbol after symbol."""

ATTEMPTS = 6
SMALLEST_RATE = "600k"


class Unlucky(Exception):
    """The run did not show what it should, such as a loss; another will."""


@dataclass
class Scene:
    """One run: a lab, an object, and the captures made in it."""

    lab: Lab
    folder: Path
    captures: dict[str, Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def make(self, name: str, size: int) -> Path:
        """Write the object: bytes that depend on its name alone."""
        path = self.folder / name
        data = Random(name).randbytes(size)
        path.write_bytes(data)
        self.facts |= {"object": name, "size": size, "sha256": hashlib.sha256(data).hexdigest()}
        return path

    def make_folder(self, name: str) -> Path:
        """Write a small folder; return its path. The object is its archive."""
        folder = small_folder(self.folder / name)
        data = archive_of(folder)
        sha256 = hashlib.sha256(data).hexdigest()
        self.facts |= {"object": name, "size": len(data), "sha256": sha256}
        return folder

    @contextlib.contextmanager
    def tcpdump(self, name: str, node: str, interface: str = "eth0") -> Iterator[None]:
        """Capture on a node while the context lasts."""
        path = self.folder / f"{name}.pcap"
        command = ["tcpdump", "-n", "-U", "-s0", "-B8192", "--immediate-mode", "-w", str(path)]
        # Neighbour discovery, group membership and ARP are not what is shown.
        command += ["-Z", "root", "-i", interface, "not icmp6 and not arp and not igmp"]
        command += ["and not ip6 proto 0"]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                self.lab.inside(node, *command), stdout=subprocess.DEVNULL, stderr=said
            )

            def messages() -> str:
                said.seek(0)
                return said.read().decode()

            try:
                until(lambda: "listening on" in messages(), f"tcpdump listens: {messages()}")
                yield
                time.sleep(0.1)
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait(PATIENCE)
            if "\n0 packets dropped by kernel" not in messages():
                raise Unlucky("the system dropped packets")
        self.captures[name] = path

    def send(self, node: str, file: Path, *options: str, **how: str) -> Process:
        """Start a sender, at the beginning unless told otherwise, and wait until it sends."""
        start = () if "--start" in options else ("--start", "0/1")
        process = self.lab.send(node, file, *start, *options, **({"rate": SMALLEST_RATE} | how))
        process.event("start")
        return process

    def check(self, receiver: Process, name: str = "complete") -> dict[str, Any]:
        """Wait for a receiver to be done; keep what it reported."""
        ended = receiver.result()
        kept = ("seconds", "cycles", "packets", "odata", "rdata", "lost", "duplicates", "damaged")
        kept += ("naks_sent", "naks_suppressed", "refused")
        kept += ("repair_symbols_received", "decoded", "recovered", "forged")
        self.facts[name] = {key: ended[key] for key in kept}
        return ended


def clean_carousel(scene: Scene) -> None:
    """One sender, no loss. The receiver and the capture are there before the first packet. It is
    done before the first repair symbol is sent."""
    file = scene.make("clean.bin", 100_000)
    with scene.tcpdump("clean-carousel", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        scene.send("S", file, "--symbol-size", "1024")
        ended = scene.check(receiver)
    if ended["lost"]:
        raise Unlucky("lost packets")


def folder(scene: Scene) -> None:
    """A folder as an archive of it (`send DIR`), and a receiver that takes it as a file. It has a
    file under two names, a symbolic link, a folder and a mode of its own. Its bytes are random,
    made from the names of its files."""
    site = scene.make_folder("site")
    with scene.tcpdump("folder", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        scene.send("S", site, "--symbol-size", "512")
        scene.check(receiver)


def clean_carousel_ipv4(scene: Scene) -> None:
    """The same over IPv4."""
    file = scene.make("clean-ipv4.bin", 100_000)
    with scene.tcpdump("clean-carousel-ipv4", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out", group=GROUPS[4])
        scene.send("S", file, "--symbol-size", "1024", group=GROUPS[4])
        scene.check(receiver)


def offload(scene: Scene) -> None:
    """The sender's own view, `tcpdump -i any`: Linux cooked frames (SLL2), bursts that the system
    cuts into packets only later (UDP_SEGMENT), and UDP checksums that nobody has computed yet."""
    file = scene.make("offload.bin", 100_000)
    with scene.tcpdump("offload-sender-side", "S", "any"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        sender = scene.send("S", file, "--symbol-size", "1024", "--cycles", "1", rate="100M")
        scene.check(receiver)
        sender.result()


def late_join(scene: Scene) -> None:
    """The switch lets nothing through to the receiver at first (nftables): it joins in the middle
    of the source symbols. Repair symbols stand for what went by: all is there after one cycle."""
    file = scene.make("late.bin", 100_000)
    joins = scene.lab.drop("oifname vR1 meta l4proto udp")
    with scene.tcpdump("late-join", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        scene.send("S", file, "--symbol-size", "1024")
        time.sleep(0.5)
        joins()
        ended = scene.check(receiver)
    if ended["decoded"] < 1 or ended["cycles"] > 1.2:
        raise Unlucky("it joined too early or too late")


def loss_carousel(scene: Scene) -> None:
    """5% of the packets towards the receiver are dropped by the switch (nftables). Neither repair
    symbols nor NAKs: what is missing comes with later cycles."""
    file = scene.make("loss.bin", 50_000)
    scene.lab.loss(0.05)
    with scene.tcpdump("loss-carousel", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        scene.send("S", file, "--symbol-size", "512", *PLAIN)
        ended = scene.check(receiver)
    if ended["lost"] < 5 or ended["cycles"] < 1.1:
        raise Unlucky("too few losses")


def loss_fec(scene: Scene) -> None:
    """5% of the packets towards the receiver are dropped by the switch (nftables). Two blocks in
    rounds, the last one short: both are decoded from source and repair symbols."""
    file = scene.make("loss-fec.bin", 72_000)
    scene.lab.loss(0.05)
    with scene.tcpdump("loss-fec", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        scene.send("S", file, "--symbol-size", "64")
        ended = scene.check(receiver)
    if ended["lost"] < 20 or not ended["decoded"] or ended["cycles"] > 1.2:
        raise Unlucky("too few losses, or too many")


def loss_repair(scene: Scene) -> None:
    """5% of the packets towards the receiver are dropped by the switch (nftables); the sender takes
    NAKs, and its object has no repair symbols. One run seen from both sides: NAKs and NCFs that
    name symbols, and RDATA."""
    file = scene.make("repair.bin", 66_000)
    scene.lab.loss(0.05)
    with (
        scene.tcpdump("loss-repair-sender-side", "S"),
        scene.tcpdump("loss-repair-receiver-side", "R1"),
    ):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        scene.send("S", file, "--symbol-size", "64", *PLAIN, "--repair", rate="800k")
        ended = scene.check(receiver)
    if ended["naks_sent"] != 2 or ended["rdata"] < 20 or ended["cycles"] > 1.3:
        raise Unlucky("too few NAKs, or an NCF was lost")


def loss_counts(scene: Scene) -> None:
    """5% of the packets towards the receiver are dropped by the switch (nftables); the sender sends
    one cycle of source symbols and takes NAKs: these ask for so many symbols of a block, whichever.
    One run seen from both sides."""
    file = scene.make("counts.bin", 72_000)
    scene.lab.loss(0.05)
    options = ("--symbol-size", "64", "--order", "blocks", "--cycles", "1", "--repair")
    with (
        scene.tcpdump("loss-counts-sender-side", "S"),
        scene.tcpdump("loss-counts-receiver-side", "R1"),
    ):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        sender = scene.send("S", file, *options, rate="800k")
        ended = scene.check(receiver)
        sender.stop()
    if not ended["naks_sent"] or ended["rdata"] < 20 or not ended["decoded"]:
        raise Unlucky("too few NAKs")


def two_senders(scene: Scene) -> None:
    """Two senders of one object, each with a sector of its rings (--start 0/2 and 1/2). Their
    packets add up, and none comes twice."""
    file = scene.make("two.bin", 100_000)
    with scene.tcpdump("two-senders", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        scene.send("S", file, "--symbol-size", "1024", "--start", "0/2")
        scene.send("R2", file, "--symbol-size", "1024", "--start", "1/2")
        ended = scene.check(receiver)
    if ended["cycles"] > 1.2 or ended["duplicates"]:
        raise Unlucky("the second sender was late")


def two_channels(scene: Scene) -> None:
    """A sender with two channels (--channel ff15::7067:1,600k and ff15::7067:2,1200k): channel 0 on
    the slow group has the visits of repair symbols at the ends of the rings, channel 1 the source
    symbols and some repair symbols. A receiver of channel 0 decodes all of them; seen by the
    sender, so both channels are there."""
    file = scene.make("channels.bin", 50_000)
    fast = GROUPS[6].rpartition(":")[0] + ":2"
    with scene.tcpdump("two-channels-sender-side", "S"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        where = ["-p", str(PORT), "-i", "eth0", "--channel", f"{GROUPS[6]},{SMALLEST_RATE}"]
        options = ["--channel", f"{fast},1200k", "--symbol-size", "512", "--start", "0/1"]
        scene.lab.spawn("S", *PGMLITE, "send", "--json", str(file), *where, *options)
        ended = scene.check(receiver)
    if ended["lost"] or not ended["decoded"]:
        raise Unlucky("lost packets")


def disorder(scene: Scene) -> None:
    """A relay between switch and receiver (tests/support/relay.py, frames through AF_PACKET
    sockets) lets 10% of the packets come up to 6 places late, and 5% twice."""
    file = scene.make("disorder.bin", 100_000)
    scene.lab.ip(
        "SW",
        "link add relay0 type veth peer name relay1",
        "link set vR1 nomaster",
        "link set relay0 master br0 up",
        "link set relay1 up promisc on",
        "link set vR1 promisc on",
    )
    relay = scene.lab.spawn("SW", sys.executable, str(SUPPORT / "relay.py"), "relay1", "vR1")
    relay.event("start")
    with scene.tcpdump("reordering-and-duplicates", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        scene.send("S", file, "--symbol-size", "1024")
        ended = scene.check(receiver)
    if ended["duplicates"] < 2:
        raise Unlucky("too few duplicates")


def repairer(scene: Scene) -> None:
    """A sender that takes no NAKs, sends one cycle of source symbols and names a stand-alone
    repairer in its manifest; that one is on another node and has a copy of the file. 5% of the
    packets towards each of two receivers are dropped by the switch (nftables). When the carousel
    stands they ask by count. Seen by the first receiver."""
    file = scene.make("repairer.bin", 60_000)
    scene.lab.loss(0.05, ["R1", "R3"])
    where = ("-g", GROUPS[6], "-p", str(PORT), "-i", "eth0", "-r", "500k")
    options = ("--symbol-size", "64", "--order", "blocks", "--repairer", "[fd01::12]:28776")
    early = scene.send("S", file, *options)
    helper = scene.lab.spawn(
        "R2", *PGMLITE, "repair", "--json", str(file), *where, "--listen", ":28776"
    )
    helper.event("start")
    early.stop()
    with scene.tcpdump("stand-alone-repairer", "R1"):
        receivers = [scene.lab.recv(node, scene.folder / node) for node in ("R1", "R3")]
        scene.send("S", file, *options, "--cycles", "1")
        ended = scene.check(receivers[0])
    if not ended["rdata"] or not ended["naks_sent"] or not ended["decoded"]:
        raise Unlucky("no repairs")


def hostile(scene: Scene) -> None:
    """A stranger on the network sends junk to the group (tests/support/stranger.py): all invalid
    vectors, random bytes, cut and changed packets, fragments, a symbol under a number out of thin
    air, and one with wrong bytes under a right header. The block is wrong with that, and right
    without what the stranger sent; the capture goes on until it could be collected anew."""
    file = scene.make("hostile.bin", 40_000)
    with scene.tcpdump("hostile-junk", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        where = (GROUPS[6], str(PORT), "eth0", "250")
        stranger = scene.lab.spawn("R2", sys.executable, str(SUPPORT / "stranger.py"), *where)
        stranger.event("start")
        scene.send("S", file, "--symbol-size", "512", rate="400k")
        ended = scene.check(receiver)
        # For who can't tell forged symbols from others, and collects the block once more.
        time.sleep(1.5)
    if not ended["damaged"] or ended["refused"].get("request", 0) < 10:
        raise Unlucky("the junk came too late")


def restart(scene: Scene) -> None:
    """The sender is killed in the middle of its first cycle and started again a second later, with
    a new tsi, new sequence numbers and another source port."""
    file = scene.make("restart.bin", 100_000)
    with scene.tcpdump("sender-restart", "R1"):
        receiver = scene.lab.recv("R1", scene.folder / "out")
        sender = scene.send("S", file, "--symbol-size", "1024")
        time.sleep(0.8)
        sender.stop()
        time.sleep(1.0)
        scene.send("S", file, "--symbol-size", "1024")
        scene.check(receiver)


def signed(scene: Scene) -> None:
    """A signed object (release 17 of example/x1), and a receiver that has the key, the first one of
    spec/vectors/signed.json. A stranger (tests/support/forger.py) forges a symbol for each that is
    sent, ahead of the carousel, leaves of tiles, and announcements: an unsigned one, one by another
    key, an older release by the right one, and a newer one that only says to be by it. Half of
    these packets have the sender's own address and port."""
    file, key = scene.make("signed.bin", 40_000), scene.folder / "key.pem"
    how = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(private_key(0).private_bytes(*how))
    public = scene.folder / "key.pub.pem"
    public.write_text(json.loads(SIGNED_VECTORS.read_text())["keys"][0]["pem"])
    release = ("--release", "17", "--stream", "example/x1", "--symbol-size", "512")
    subprocess.run([*PGMLITE, "sign", file, "--key", key, *release], check=True)
    announced = scene.folder / "announced"
    older, alien, newer = (
        make_signed(900, release=number, stream="example/x1", keys=(by,))
        for number, by in ((16, 0), (18, 1), (19, 0))
    )
    newer = replace(newer, signatures=older.signatures)
    packets = [of.spm() for of in (SMALL, older, alien, newer)]
    announced.write_text("\n".join(one.hex() for one in packets))
    floors = f"PGMLITE_STATE={scene.folder}/state"
    where = ("-g", GROUPS[6], "-p", str(PORT), "-i", "eth0", "-o", str(scene.folder / "out"))
    with scene.tcpdump("signed", "R1"):
        options = (*where, "--key", str(public), "--stream", "example/x1")
        receiver = scene.lab.spawn("R1", "env", floors, *PGMLITE, "recv", "--json", *options)
        receiver.event("start")
        whom = (GROUPS[6], str(PORT), "eth0", str(announced))
        forger = scene.lab.spawn("R2", sys.executable, str(SUPPORT / "forger.py"), *whom)
        forger.event("start")
        scene.send("S", file.with_name("signed.bin.pglm"), rate="400k")
        ended = scene.check(receiver)
    missing = {"forged", "tree", "unsigned", "key", "signature", "rollback"} - set(ended["refused"])
    if missing:
        raise Unlucky(f"nothing was refused as {', '.join(sorted(missing))}")


SCENES: dict[str, tuple[Callable[[Scene], None], int]] = {
    "clean-carousel": (clean_carousel, 1),
    "clean-carousel-ipv4": (clean_carousel_ipv4, 1),
    "folder": (folder, 1),
    "late-join": (late_join, 1),
    "loss-carousel": (loss_carousel, 1),
    "loss-fec": (loss_fec, 1),
    "loss-repair": (loss_repair, 1),
    "loss-counts": (loss_counts, 1),
    "two-senders": (two_senders, 2),
    "two-channels": (two_channels, 1),
    "reordering-and-duplicates": (disorder, 1),
    "stand-alone-repairer": (repairer, 3),
    "hostile-junk": (hostile, 2),
    "signed": (signed, 2),
    "sender-restart": (restart, 1),
    "offload-sender-side": (offload, 1),
}
"""Scene -> how it is played, and how many receivers its lab has."""


def summary(path: Path) -> dict[str, Any]:
    """Return what ``pgmlite info`` says of a capture, as far as the index keeps it."""
    done = subprocess.run(
        [*PGMLITE, "info", "--json", str(path)], capture_output=True, text=True, check=True
    )
    facts = json.loads(done.stdout)
    types: dict[str, int] = {}
    for session in facts["sessions"]:
        for kind, count in session["packets"].items():
            types[kind] = types.get(kind, 0) + count
    if naks := sum(asked["naks"] for asked in facts["repairs"]):
        types["NAK"] = naks
    return {"frames": facts["packets"], "packets": dict(sorted(types.items()))}


def play(name: str) -> dict[str, dict[str, Any]]:
    """Play a scene until it shows what it should; return its entries of the index."""
    act, receivers = SCENES[name]
    for _ in range(ATTEMPTS):
        mode = "offload" if act is offload else "wire"
        with tempfile.TemporaryDirectory() as folder:
            with Lab(receivers, mode, prefix="cap-") as lab:
                scene = Scene(lab, Path(folder))
                if act is not offload:
                    # Else checksums would be left to cards that are none.
                    for node in ("S", *lab.receivers):
                        lab.sh(node, "ethtool -K eth0 tx off")
                try:
                    act(scene)
                except Unlucky as why:
                    print(f"{name}: {why}, again", flush=True)
                    continue
            sizes = [path.stat().st_size for path in scene.captures.values()]
            if max(sizes) > LARGEST:
                print(f"{name}: {max(sizes)} bytes, again", flush=True)
                continue
            made = " ".join((act.__doc__ or "").split())
            entries = {}
            for capture, path in scene.captures.items():
                data = path.read_bytes()
                (CAPTURES / f"{capture}.pcap").write_bytes(data)
                entries[capture] = {
                    "made": made,
                    **scene.facts,
                    "capture_sha256": hashlib.sha256(data).hexdigest(),
                    **summary(path),
                }
                print(f"{capture}: {len(data)} bytes, {entries[capture]['packets']}", flush=True)
            return entries
    raise SystemExit(f"{name}: not in {ATTEMPTS} attempts")


def main(names: list[str]) -> None:
    """Record the scenes `names`, or all."""
    if why := missing():
        raise SystemExit(why)
    CAPTURES.mkdir(exist_ok=True)
    path = CAPTURES / "index.json"
    index = json.loads(path.read_text()) if path.exists() else {}
    for name in names or SCENES:
        index |= play(name)
        # In the order in which the scenes are told above.
        order = [key for scene in SCENES for key in index if key.startswith(scene)]
        index = {key: index[key] for key in dict.fromkeys(order)}
        path.write_text(json.dumps(index, indent=1) + "\n")
        (CAPTURES / "README.md").write_text(readme(index))


if __name__ == "__main__":
    main(sys.argv[1:])
