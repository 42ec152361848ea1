"""A real DNS server for tests: knot, on a loopback port or in a namespace."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dns.asyncresolver
import dns.message
import dns.nameserver
import dns.query
import pytest

from pgmlite.core.machine import DnsAnswer, Resolve
from pgmlite.net.discovery import Discovery

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


def need() -> None:
    """Skip the test where there is no knot; in CI that is a failure."""
    if shutil.which("knotd"):
        return
    if os.environ.get("CI"):
        pytest.fail("knot is not installed", pytrace=False)
    pytest.skip("knot is not installed")


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
                "import sys, dns.message, dns.query; "
                f"q = dns.message.make_query('{ZONE}', 'SOA'); "
                f"r = dns.query.udp(q, '{self.address}', 1, port={self.port}); "
                "sys.exit(not r.answer)"
            )
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
        return asks(*before, (self.address, self.port))


def asks(*servers: tuple[str, int]) -> dns.asyncresolver.Resolver:
    """Return a resolver that asks these servers (address, port) in turn."""
    made = dns.asyncresolver.Resolver(configure=False)
    made.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in servers]
    return made


def look_up(
    resolver: Callable[[], dns.asyncresolver.Resolver],
    name: str,
    *versions: int,
    is_service: bool = True,
) -> DnsAnswer:
    """Return what discovery finds, as a loop gets it: woken by a descriptor."""
    discovery = Discovery(versions or (6, 4), resolver)
    try:
        discovery.add(Resolve(name, is_service))
        assert select.select(discovery.fds, (), (), PATIENCE)[0], "nothing woke the loop"
        (found,) = discovery.take()
        assert not discovery.fds
        return found
    finally:
        discovery.close()


@contextlib.contextmanager
def fake_server(respond: Callable[[bytes], bytes | None]) -> Iterator[tuple[str, int]]:
    """Yield the address and port of a UDP server that answers what a test likes; None: nothing."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                query, sender = udp.recvfrom(4096)
                if not ended.is_set() and (answer := respond(query)) is not None:
                    udp.sendto(answer, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield udp.getsockname()
        finally:
            ended.set()
            udp.sendto(b"", udp.getsockname())
            thread.join()
