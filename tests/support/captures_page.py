"""What ``captures/README.md`` says."""

from __future__ import annotations

from typing import Any


def readme(index: dict[str, dict[str, Any]]) -> str:
    """Return ``README.md``: the index for people."""
    lines = [
        "# Captures",
        "",
        "Real transfers, recorded by tcpdump in networks of namespaces on one machine, as root:",
        "`python -m tests.record_captures`. Group `ff15::7067:1` (IPv4: 239.70.67.1), port 28775.",
        "`pgmlite replay captures/NAME.pcap -o OUT` gives the object again. Its SHA-256, and what",
        "the receiver in the recording reported (`complete`), are in `index.json`. The objects are",
        "random bytes made from their names. Unless said otherwise the frames are Ethernet, UDP",
        "checksums are complete, and the capture is that of the receiver's interface.",
        "",
        "`complete` has the counters of the receiver that was there, from its start to the end:",
        "",
        "* `packets`: those with a valid header and length, whatever became of them. Refusals for",
        "  `short` to `offset` (section 3.8 of the protocol) are in `refused` alone.",
        "* `odata`, `rdata`: symbols; `duplicates`: those that were stored already.",
        "* `cycles`: object lengths of ODATA that went by, those that were lost included.",
        "* `lost`: packets missing by their numbers (RCV-9).",
        "* `damaged`: blocks that did not verify.",
        "* `repair_symbols`: those of `odata` and `rdata` that are repair symbols; `decoded`:",
        "  blocks that they made whole, `recovered`: source symbols of these that had not come.",
        "* `forged`: symbols that were found to be others than were sent.",
        "* `seconds`: from the start of the receiver, so the wait for the sender is among them.",
        "",
        "A replay counts the same, but for some packets: the capture began before the receiver",
        "was there, and a receiver takes packets by the handful, the last one too. It draws its",
        "own NAKs, and leaves IP fragments aside, of which the system had made datagrams. `frames`",
        "and `packets` beside `complete` are of the whole capture, as `pgmlite info` counts them.",
        "",
        "| capture | shows | packets |",
        "|---|---|---|",
    ]
    for name, facts in index.items():
        packets = ", ".join(f"{count} {kind}" for kind, count in facts["packets"].items())
        lines.append(f"| `{name}.pcap` | {facts['made']} | {packets} |")
    return "\n".join(lines) + "\n"
