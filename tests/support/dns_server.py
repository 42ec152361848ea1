"""A real DNS server for tests: knot, on a loopback port or in a namespace."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.asyncresolver
import dns.flags
import dns.message
import dns.nameserver
import dns.query

ZONE = "example.org"
BROKEN = "broken.example"
"""A zone that the server has, and can't load: it answers SERVFAIL."""

PATIENCE = 20.0

HEAD = """\
$ORIGIN example.org.
$TTL 60
@ SOA ns hostmaster 1 60 30 600 30
@ NS ns
ns A 127.0.0.1
"""

CONF = """\
server:
  listen: [ "{address}@{port}" ]
  rundir: "{folder}/run"
  background-workers: 1
  udp-workers: 1
  tcp-workers: 1
log:
  - target: stderr
    any: warning
database:
  storage: "{folder}/db"
template:
  - id: default
    storage: "{folder}"
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
  - domain: example.org
    file: example.org.zone
  - domain: broken.example
    file: nowhere.zone
"""


def missing() -> str:
    """Return what keeps this machine from running the server, as a sentence; empty: nothing."""
    return "" if shutil.which("knotd") else "These tests need knot (knotd)."


def free_port() -> int:
    """Return a port that neither UDP nor TCP has on the loopback interface now."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return int(udp.getsockname()[1])


class DnsServer(contextlib.ExitStack):
    """knot with one zone of these records, once it answers; gone at the end of the context.

    Attributes:
        address: Where it listens.
        port: UDP and TCP.
    """

    def __init__(
        self,
        folder: Path,
        records: str,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        inside: Sequence[str] = (),
    ) -> None:
        """
        Args:
            folder: For its files.
            port: 0: any that is free.
            inside: The command that runs a command where the server is to run.
        """
        super().__init__()
        self.address = address
        self.port = port or free_port()
        self._folder = folder
        self._inside = inside
        self._records = records

    def __enter__(self) -> DnsServer:
        super().__enter__()
        for name in ("run", "db"):
            (self._folder / name).mkdir(parents=True)
        conf = self._folder / "knot.conf"
        conf.write_text(CONF.format(address=self.address, port=self.port, folder=self._folder))
        self._write()
        said = self.enter_context((self._folder / "knot.log").open("wb"))
        command = [*self._inside, shutil.which("knotd") or "knotd", "-c", str(conf)]
        self._process = subprocess.Popen(command, stdout=said, stderr=said)
        self.callback(self._stop)
        try:
            self._await_answer()
        except BaseException:
            self.close()
            raise
        return self

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _write(self) -> None:
        (self._folder / "example.org.zone").write_text(HEAD + self._records)

    def change(self, records: str) -> None:
        """Serve other records from now on."""
        self._records = records
        self._write()
        knotc = shutil.which("knotc") or "knotc"
        conf = str(self._folder / "knot.conf")
        subprocess.run(
            [*self._inside, knotc, "-c", conf, "-b", "zone-reload", ZONE],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    def _await_answer(self) -> None:
        # Not the process: it runs long before it answers.
        end = time.monotonic() + PATIENCE
        while not self._answers():
            log = (self._folder / "knot.log").read_text()
            assert time.monotonic() < end, f"knot does not answer: {log}"
            assert self._process.poll() is None, log
            time.sleep(0.02)

    def _answers(self) -> bool:
        if self._inside:
            script = (
                "import sys, dns.message, dns.query, dns.flags; "
                f"q = dns.message.make_query('{ZONE}', 'SOA'); "
                f"r = dns.query.udp(q, '{self.address}', 1, port={self.port}); "
                "sys.exit(not r.answer)"
            )
            import sys

            done = subprocess.run(
                [*self._inside, sys.executable, "-c", script], capture_output=True, check=False
            )
            return done.returncode == 0
        query = dns.message.make_query(ZONE, "SOA")
        with contextlib.suppress(Exception):
            return bool(dns.query.udp(query, self.address, 0.5, port=self.port).answer)
        return False

    def resolver(self, *before: tuple[str, int]) -> dns.asyncresolver.Resolver:
        """Return a resolver that asks this server, after others (address, port)."""
        made = dns.asyncresolver.Resolver(configure=False)
        made.nameservers = [
            dns.nameserver.Do53Nameserver(address, port)
            for address, port in (*before, (self.address, self.port))
        ]
        return made


@contextlib.contextmanager
def mute_server() -> Iterator[tuple[str, int]]:
    """Yield the address and port of a server that takes questions and never answers."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        yield "127.0.0.1", udp.getsockname()[1]
