"""A network with two routers: what `lab` has on one switch, with PIM between sender and receivers.

    S T -- [L0] -- A -- [W] -- B -- [L1] -- R1 R3 ... P
                               B -- [L2] -- R2 R4 ...

The routers speak PIM-SSM, MLDv2 and IGMPv3 on each interface, with FRR's own times, and have no
rendezvous point. Needs what `lab.missing` and `frr.missing` look for.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import frr
from tests.support.lab import PATIENCE, Namespaces, Process, until

GROUPS = {6: "ff3e::8070:6701", 4: "232.70.67.1"}
"""Source-specific: nothing but a join of (S,G) crosses the routers."""

HOPS = ("--hops", "8")
"""Of a sender whose receivers are behind routers."""


class Lan(NamedTuple):
    """A network: its bridge, its router's interface, and how its addresses begin."""

    bridge: str
    router: str
    interface: str
    six: str
    four: str


SENDERS = Lan("L0", "A", "lan0", "fd0a::", "10.10.0.")
LANS = (Lan("L1", "B", "lan1", "fd01::", "10.1.0."), Lan("L2", "B", "lan2", "fd02::", "10.2.0."))
LINK = Lan("W", "", "ab", "fd0b::", "10.11.0.")
"""Between the routers."""

ROUTERS = {"A": (SENDERS, LINK), "B": (LINK, *LANS)}
HOST = {"S": "1", "T": "2", "P": "2", "A": "a", "B": "b"}
"""How a node's IPv6 addresses end; Ri's in 1i."""

HOST4 = HOST | {"A": "251", "B": "252"}
DAEMONS = ("zebra", "pimd", "pim6d")
PIM = {6: "pim6d", 4: "pimd"}
"""The daemon of each family."""

QUERIERS = {6: ("ipv6 pim", "ipv6 mld"), 4: ("ip pim", "ip igmp")}


def lan_of(node: str) -> Lan:
    """Return the network that a host is on, or the link between the routers."""
    if node in ROUTERS:
        return LINK
    if node in ("S", "T"):
        return SENDERS
    return LANS[0] if node == "P" or int(node[1:]) % 2 else LANS[1]


def address(node: str, family: int = 6, lan: Lan | None = None) -> str:
    """Return a node's address on its network; a router's on `lan`, or on the link if None."""
    lan = lan or lan_of(node)
    hosts, begin = (HOST, lan.six) if family == 6 else (HOST4, lan.four)
    return begin + hosts.get(node, f"1{node[1:]}")


class RoutedLab(Namespaces):
    """Hosts and routers; gone at the end of the context, daemons and all."""

    def __init__(self, receivers: int = 2, query: int | None = None, prefix: str = "pr") -> None:
        """
        Args:
            query: Seconds between the routers' MLD and IGMP queries, with a second for answers;
                FRR's own times, 125 and 10 seconds, if None.
            prefix: How the names of its namespaces begin.
        """
        names = [f"R{number}" for number in range(1, receivers + 1)]
        super().__init__(names, "wire", prefix)
        self._query = query
        self._daemons: dict[tuple[str, str], Process] = {}
        self._resolvers: dict[str, Path] = {}

    def _build(self) -> None:
        hosts = ["S", "T", "P", *self.receivers]
        self._add("SW", "A", "B", *hosts)
        for bridge in ("L0", "W", "L1", "L2"):
            add = f"link add {bridge} type bridge mcast_snooping 0"
            self.ip("SW", add, f"link set {bridge} up")
        for router in ROUTERS:
            self._route(router)
        for host in hosts:
            self._host(host)
        self._add_drops()
        self._forwarding(len(hosts) + sum(map(len, ROUTERS.values())))
        for router in ROUTERS:
            self.start(router)
        until(self._are_neighbours, "the routers know each other")

    def _route(self, router: str) -> None:
        """Make a router with its links."""
        settings = {
            "ipv4/ip_forward": 1,
            "ipv6/conf/all/forwarding": 1,
            # One link-local address, the one that routes name: by it PIM knows a neighbour.
            "ipv6/conf/default/addr_gen_mode": 1,
            "ipv4/conf/all/rp_filter": 0,
            "ipv4/conf/default/rp_filter": 0,
        }
        for name, value in settings.items():
            self.sh(router, f"echo {value} > /proc/sys/net/{name}")
        local = f"fe80::{HOST[router]}/64 nodad"
        for lan in ROUTERS[router]:
            own = (*self._addresses(router, lan), local)
            port = self._port(router, lan.interface)
            self._cable(router, lan.interface, port, lan.bridge, *own)
        other = "B" if router == "A" else "A"
        for lan in LANS if router == "A" else (SENDERS,):
            self.ip(
                router,
                f"route add {lan.six}/64 via fe80::{HOST[other]} dev ab",
                f"route add {lan.four}0/24 via {address(other, 4)}",
            )

    @staticmethod
    def _addresses(node: str, lan: Lan) -> tuple[str, str]:
        """Return a node's addresses on a network, as `ip` takes them."""
        return f"{address(node, 6, lan)}/64 nodad", f"{address(node, 4, lan)}/24 brd +"

    def _host(self, host: str) -> None:
        """Make a host, whose default route is its router."""
        lan = lan_of(host)
        self._cable(host, "eth0", f"v{host}", lan.bridge, *self._addresses(host, lan))
        self.routes(host)

    def routes(self, host: str) -> None:
        """Give a host its default routes, which an interface loses when it goes down."""
        lan = lan_of(host)
        self.ip(
            host,
            f"route replace default via fe80::{HOST[lan.router]} dev eth0",
            f"route replace default via {address(lan.router, 4, lan)}",
        )

    @staticmethod
    def _port(node: str, interface: str = "ab") -> str:
        """Return a node's port on the switch, a router's at this interface."""
        return f"v{node}-{interface}" if node in ROUTERS else f"v{node}"

    # Routers.

    def start(self, router: str) -> None:
        """Start a router's daemons."""
        folder = self._folder / router
        folder.mkdir(exist_ok=True)
        for family, daemon in PIM.items():
            (folder / f"{daemon}.conf").write_text(self._settings(router, family))
        (folder / "zebra.conf").touch()
        os.chown(folder, *frr.owner())
        for daemon in DAEMONS:
            self._daemons[router, daemon] = self._daemon(router, daemon, folder)
            # The others ask zebra for the interfaces.
            until((folder / f"{daemon}.vty").exists, f"{daemon} of {router} runs")

    def _settings(self, router: str, family: int) -> str:
        """Return what a daemon reads."""
        lines = []
        for _, _, interface, *_ in ROUTERS[router]:
            lines += [f"interface {interface}", *QUERIERS[family]]
            if self._query:
                # Answers must be shorter than what is between two questions.
                lines.append(f"{QUERIERS[family][1]} query-max-response-time 10")
                lines.append(f"{QUERIERS[family][1]} query-interval {self._query}")
            lines.append("exit")
        return "\n".join([*lines, ""])

    def _daemon(self, router: str, daemon: str, folder: Path) -> Process:
        """Start a daemon, with a view of the file system that nobody else has."""
        root = frr.root()
        mounts = [
            f"mount -t tmpfs none {root}/run",
            f"mkdir {root}/run/frr",
            f"mount --bind {folder} {root}/run/frr",
            f"mount --bind {folder} {root}/etc/frr",
            f"mount -t tmpfs none {root}/var/tmp",
        ]
        if root != Path("/"):
            mounts += [f"mount -t proc none {root}/proc", f"mount --bind /dev {root}/dev"]
        options = f"-f /etc/frr/{daemon}.conf -i /run/frr/{daemon}.pid -P 0"
        sockets = "-z /run/frr/zserv.api --vty_socket /run/frr"
        start = f"exec chroot {root} /{frr.DAEMONS}/{daemon} {options} {sockets}"
        return self.spawn(router, "sh", "-ec", "\n".join([*mounts, start]))

    def stop(self, router: str) -> None:
        """Kill a router's daemons; what they told the kernel to forward stops."""
        for daemon in DAEMONS:
            self._daemons.pop((router, daemon)).stop()
            (self._folder / router / f"{daemon}.vty").unlink()

    def show(self, router: str, command: str, daemon: str | None = None) -> str:
        """Return what a router's daemon says to a command of vtysh.

        Args:
            daemon: pim6d for commands with "ipv6", else pimd, if None.
        """
        daemon = daemon or PIM[6 if "ipv6" in command else 4]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            # Within `/proc/self/fd`: the names of sockets are short.
            connection.connect(str(self._folder / router / f"{daemon}.vty"))
            for line in ("enable", command):
                connection.sendall(line.encode() + b"\0")
                said = b""
                while b"\0\0\0" not in said[:-1]:
                    said += connection.recv(1 << 16)
        return said[: said.index(b"\0\0\0")].decode()

    def _are_neighbours(self) -> bool:
        """Whether each router knows the other, in both families."""
        return all(
            '"ab":{"' in "".join(self.show(router, f"show {ip} pim neighbor json").split())
            for router in ROUTERS
            for ip in ("ip", "ipv6")
        )

    def forwarded(self, router: str, family: int = 6) -> set[tuple[str, str]]:
        """Return (source, group) of what a router has outgoing interfaces for."""
        ip = "ipv6" if family == 6 else "ip"
        table: dict[str, dict[str, Any]] = json.loads(self.show(router, f"show {ip} mroute json"))
        return {
            (source, group)
            for group, sources in table.items()
            for source, route in sources.items()
            if route.get("oil")
        }

    # Links and hosts.

    def drop_behind(self, share: float) -> None:
        """Drop this share of UDP on the link from A to B: everybody behind it loses the same."""
        chance = f"numgen random mod 10000 < {share * 10_000:.0f}"
        self.drop(f"oifname {self._port('B')} meta l4proto udp {chance}")

    def rate(self, node: str, rate: str | None) -> None:
        """Limit what the switch sends to a node, or to a router over the link between both.

        Args:
            rate: As tc takes it, "20mbit"; None for no limit. 50 ms of it wait at most.
        """
        port = self._port(node)
        if rate is None:
            self.sh("SW", f"tc qdisc del dev {port} root")
            return
        self.sh("SW", f"tc qdisc replace dev {port} root tbf rate {rate} burst 15kb latency 50ms")

    def port(self, node: str, state: str) -> None:
        """Set the port of a node on its switch `up` or `down`."""
        self.link("SW", state, self._port(node))

    def restore(self, node: str) -> None:
        """Set a host's interface up again, with all that the kernel forgot when it went down."""
        self.link(node, "up")
        self.ip(node, f"addr replace {address(node)}/64 dev eth0 nodad")
        self.routes(node)

    def resolve(self, node: str, *servers: str) -> None:
        """Let what is started on a node from now on ask these DNS servers."""
        file = self._folder / f"resolv.{node}"
        file.write_text("".join(f"nameserver {server}\n" for server in servers))
        self._resolvers[node] = file

    def inside(self, node: str, *command: str) -> list[str]:
        """Return the command that runs `command` on a node."""
        if file := self._resolvers.get(node):
            # `ip netns exec` gives each command mounts of its own.
            script = f'mount --bind {file} /etc/resolv.conf; exec "$@"'
            command = ("sh", "-ec", script, "sh", *command)
        return super().inside(node, *command)
