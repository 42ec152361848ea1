"""What rules of nftables do with a packet, as `nft -j list ruleset` prints them."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.net.doctor import firewall
from pgmlite.net.doctor.firewall import (
    INBOUND,
    OUTBOUND,
    Rules,
    check_firewall,
    data_packet,
    parse_rules,
    query_packet,
    read_rules,
    report_packet,
)
from pgmlite.net.doctor.nft import MOST_STEPS, Ruleset
from pgmlite.net.doctor.place import Place, place_of

SIX = Place(ipaddress.ip_address("ff15::7067:6d"), 28_775)
FOUR = Place(ipaddress.ip_address("239.1.2.3"), 28_775)


def listing(*rules: Any, policy: str = "accept", hook: str = "input", more: tuple = ()) -> dict:
    """Return a listing of one base chain, and of more objects."""
    place = {"family": "inet", "table": "f"}
    chain = {**place, "name": "in", "handle": 1, "type": "filter", "hook": hook, "prio": 0}
    objects: list[dict] = [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "inet", "name": "f", "handle": 1}},
        {"chain": chain | {"policy": policy}},
    ]
    for handle, expr in enumerate(rules, 10):
        objects.append({"rule": {**place, "chain": "in", "handle": handle, "expr": expr}})
    return {"nftables": [*objects, *more]}


def sub(name: str, *rules: Any) -> tuple[dict, ...]:
    """Return the objects of another chain."""
    place = {"family": "inet", "table": "f"}
    chain = {"chain": {**place, "name": name, "handle": 2}}
    handles = enumerate(rules, 50)
    return (
        chain,
        *({"rule": {**place, "chain": name, "handle": n, "expr": expr}} for n, expr in handles),
    )


def payload(protocol: str, field: str, right: Any, op: str = "==") -> dict:
    left = {"payload": {"protocol": protocol, "field": field}}
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key: str, right: Any, op: str = "==", kind: str = "meta") -> dict:
    return {"match": {"op": op, "left": {kind: {"key": key}}, "right": right}}


DROP: dict = {"drop": None}
ACCEPT: dict = {"accept": None}
PORT = payload("udp", "dport", 28_775)
MARK = meta("mark", 1)
"""Nobody knows the mark of a packet."""


def fate(rules: dict, place: Place = SIX, interface: str = "eth0") -> str:
    """Return what becomes of data: ``accept``, ``drop``, or ``maybe`` it is dropped."""
    found = Ruleset(rules).culprits(data_packet(place, interface), INBOUND, interface)
    if not found:
        return "accept"
    return "drop" if found[0].is_certain else "maybe"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], "accept"),
        ([[DROP]], "drop"),
        ([[{"reject": {"type": "icmpx"}}]], "drop"),
        ([[PORT, DROP]], "drop"),
        ([[PORT, ACCEPT], [DROP]], "accept"),
        ([[{"counter": {"packets": 1}}, {"log": {}}, PORT, DROP]], "drop"),
        ([[payload("udp", "dport", 53), DROP]], "accept"),
        ([[payload("udp", "dport", 53, "!="), DROP]], "drop"),
        ([[payload("udp", "dport", {"range": [28_000, 29_000]}), DROP]], "drop"),
        ([[payload("udp", "dport", {"set": [53, {"range": [1, 9]}]}), DROP]], "accept"),
        ([[payload("udp", "dport", {"set": [53, {"elem": {"val": 28_775}}]}), DROP]], "drop"),
        ([[payload("udp", "dport", 1_024, ">="), DROP]], "drop"),
        ([[payload("udp", "dport", 1_024, "<"), DROP]], "accept"),
        ([[payload("th", "dport", 28_775), DROP]], "drop"),
        ([[payload("tcp", "dport", 28_775), DROP]], "accept"),
        ([[payload("tcp", "dport", 5, "!="), DROP]], "accept"),
        ([[payload("tcp", "dport", 5, ">"), DROP]], "accept"),
        ([[payload("ip6", "daddr", "ff15::7067:6d"), DROP]], "drop"),
        ([[payload("ip6", "daddr", "ff15:0::7067:6d"), DROP]], "drop"),
        ([[payload("ip6", "daddr", {"prefix": {"addr": "ff00::", "len": 8}}), DROP]], "drop"),
        ([[payload("ip6", "daddr", {"prefix": {"addr": "fd00::", "len": 8}}), DROP]], "accept"),
        ([[payload("ip6", "daddr", {"range": ["ff00::", "ffff::"]}), DROP]], "drop"),
        ([[payload("ip", "daddr", "239.1.2.3"), DROP]], "accept"),
        ([[payload("ip6", "saddr", "fd01::1"), DROP]], "maybe"),
        ([[payload("ip6", "nexthdr", "udp"), DROP]], "drop"),
        ([[meta("iifname", "eth0"), DROP]], "drop"),
        ([[meta("iifname", "et*"), DROP]], "drop"),
        ([[meta("iif", "lo"), DROP]], "accept"),
        ([[meta("l4proto", {"set": ["tcp", "udp"]}), DROP]], "drop"),
        ([[meta("pkttype", "multicast"), DROP]], "drop"),
        ([[meta("nfproto", "ipv4"), DROP]], "accept"),
        ([[meta("state", ["established", "related"], "in", "ct"), ACCEPT], [DROP]], "drop"),
        ([[meta("state", ["new", "untracked"], "in", "ct"), ACCEPT], [DROP]], "accept"),
        ([[meta("state", "established", "!=", "ct"), DROP]], "drop"),
        ([[MARK, DROP]], "maybe"),
        ([[MARK, ACCEPT], [DROP]], "maybe"),
        ([[MARK, DROP], [DROP]], "drop"),
        ([[meta("mark", 1, "!="), DROP]], "maybe"),
        ([[PORT, {"limit": {"rate": 5, "per": "second"}}, ACCEPT], [DROP]], "maybe"),
        ([[{"match": {"op": "==", "left": {"fib": {}}, "right": False}}, DROP]], "maybe"),
        ([[{"xt": None}, DROP]], "maybe"),
        ([[{"queue": {"num": 1}}]], "maybe"),
        ([[{"return": None}], [DROP]], "accept"),
        ([[{"unheard-of": 1}]], "accept"),
    ],
    ids=json.dumps,
)
def test_what_rules_do(rules: list, expected: str) -> None:
    assert fate(listing(*rules)) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [([], "drop"), ([[PORT, ACCEPT]], "accept"), ([[MARK, ACCEPT]], "maybe")],
)
def test_a_policy_drops_what_no_rule_takes(rules: list, expected: str) -> None:
    assert fate(listing(*rules, policy="drop")) == expected


@pytest.mark.parametrize(
    ("verdict", "target", "expected"),
    [
        ("jump", [[PORT, DROP]], "drop"),
        ("jump", [[{"return": None}], [DROP]], "accept"),
        ("jump", [], "accept"),
        ("goto", [[DROP]], "drop"),
        ("goto", [], "accept"),
        ("jump", [[{"jump": {"target": "sub"}}]], "accept"),
    ],
)
def test_other_chains(verdict: str, target: list, expected: str) -> None:
    rules = listing([{verdict: {"target": "sub"}}], [ACCEPT], more=sub("sub", *target))
    assert fate(rules) == expected


def test_behind_a_goto_nothing_of_the_chain_counts() -> None:
    assert fate(listing([{"goto": {"target": "sub"}}], [DROP], more=sub("sub"))) == "accept"
    assert fate(listing([{"jump": {"target": "sub"}}], [DROP], more=sub("sub"))) == "drop"


def vmap(*pairs: tuple[Any, dict]) -> dict:
    key = {"payload": {"protocol": "udp", "field": "dport"}}
    return {"vmap": {"key": key, "data": {"set": [list(pair) for pair in pairs]}}}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (vmap((5, DROP)), "accept"),
        (vmap((5, ACCEPT), (28_775, DROP)), "drop"),
        (vmap((28_775, {"jump": {"target": "sub"}})), "drop"),
        (
            {"vmap": {"key": {"payload": {"protocol": "udp", "field": "dport"}}, "data": "@m"}},
            "drop",
        ),
        ({"vmap": {"key": {"meta": {"key": "mark"}}, "data": "@m"}}, "maybe"),
        ({"vmap": {"key": {"meta": {"key": "mark"}}, "data": "@gone"}}, "maybe"),
        (payload("udp", "dport", "@ports"), "accept"),
    ],
)
def test_maps_and_named_sets(statement: dict, expected: str) -> None:
    place = {"family": "inet", "table": "f"}
    named = {"map": {**place, "name": "m", "elem": [[28_775, DROP]]}}
    ports = {"set": {**place, "name": "ports", "elem": [22, {"range": [28_000, 29_000]}]}}
    more = (*sub("sub", [DROP]), named, ports)
    rules = [[statement, ACCEPT], [DROP]] if "match" in statement else [[statement]]
    assert fate(listing(*rules, more=more)) == expected


def test_a_culprit_is_named_by_its_chain_and_handle() -> None:
    rules = listing([{"jump": {"target": "sub"}}], more=sub("sub", [MARK, ACCEPT], [DROP]))
    (one,) = Ruleset(rules).culprits(data_packet(SIX, "eth0"), INBOUND, "eth0")
    assert (str(one), one.base) == ("rule 51 of chain inet f sub", ("inet", "f", "in"))
    (one,) = Ruleset(listing(policy="drop")).culprits(data_packet(SIX, "eth0"), INBOUND, "eth0")
    assert str(one) == "the policy of chain inet f in"


def test_chains_that_a_packet_does_not_meet() -> None:
    for hook in ("output", "forward", "postrouting"):
        assert fate(listing([DROP], hook=hook)) == "accept"
    for family, expected in (("ip", "accept"), ("ip6", "drop"), ("bridge", "accept")):
        text = json.dumps(listing([DROP])).replace('"inet"', f'"{family}"')
        assert fate(json.loads(text)) == expected
    rules = listing([DROP], hook="ingress")
    rules["nftables"][2]["chain"]["dev"] = ["eth1", "eth2"]
    assert (fate(rules), fate(rules, interface="eth2")) == ("accept", "drop")


def test_a_known_source_is_judged() -> None:
    rules = listing([payload("ip", "saddr", "10.0.0.1"), DROP])
    known = place_of("239.1.2.3", 28_775, None, ("10.0.0.1",), None)
    assert (fate(rules, FOUR), fate(rules, known)) == ("maybe", "drop")


# Results.


def check(rules: dict, *, arrives: bool = False, is_on_wire: bool = False) -> list[tuple[str, ...]]:
    found = check_firewall(
        Rules(Ruleset(rules)), SIX, "eth0", arrives=arrives, is_on_wire=is_on_wire
    )
    return [(one.state, one.text, one.command) for one in found]


LET_IN = "nft insert rule inet f in ip6 daddr ff15::7067:6d udp dport 28775 accept"


def test_results_of_the_firewall() -> None:
    ((state, text, command),) = check(listing([PORT, DROP]))
    assert (state, command) == ("fail", LET_IN)
    assert text == "rule 10 of chain inet f in drops UDP to ff15::7067:6d port 28775"
    ((state, text, command),) = check(listing([PORT, MARK, DROP]))
    assert (state, command, "may drop" in text) == ("warn", LET_IN, True)
    ((state, text, command),) = check(listing([PORT, MARK, DROP]), is_on_wire=True)
    assert (state, command, "comes to eth0 and not" in text) == ("fail", LET_IN, True)
    assert [state for state, *_ in check(listing([PORT, DROP]), arrives=True)] == ["ok"]
    assert [state for state, *_ in check(listing())] == ["ok"]


def test_what_keeps_a_group_alive_is_looked_at_too() -> None:
    found = check(listing([PORT, ACCEPT], policy="drop"), arrives=True)
    assert [(state, "drops MLD queries" in text) for state, text, _ in found] == [("warn", True)]
    found = check(listing([DROP], hook="output"), arrives=True)
    assert [(state, "drops MLD reports" in text) for state, text, _ in found] == [("warn", True)]
    mld = {"set": ["mld-listener-query", "mld2-listener-report"]}
    rules = listing([payload("icmpv6", "type", mld), ACCEPT], [PORT, ACCEPT], policy="drop")
    assert [state for state, *_ in check(rules)] == ["ok"]
    for packet, hooks in ((query_packet, INBOUND), (report_packet, OUTBOUND)):
        rules = listing([payload("ip", "protocol", "igmp"), DROP], hook=hooks[-1])
        assert Ruleset(rules).culprits(packet(FOUR, "eth0"), hooks, "eth0")


def test_a_machine_whose_rules_can_not_be_read(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(firewall, "LISTING", ("no-such-program",))
    rules = read_rules(tmp_path)
    (one,) = check_firewall(rules, SIX, "eth0", arrives=False, is_on_wire=False)
    assert (one.state, "nft is not installed" in one.text) == ("warn", True)
    assert check_firewall(rules, SIX, "eth0", arrives=True, is_on_wire=False) == []
    for command in (("sh", "-c", "echo no >&2; exit 1"), ("echo", "no json")):
        monkeypatch.setattr(firewall, "LISTING", command)
        rules = read_rules(tmp_path)
        (one,) = check_firewall(rules, SIX, "eth0", arrives=False, is_on_wire=False)
        assert (one.state, "can't be read" in one.text) == ("warn", True)


def test_older_tables_are_told_of(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "ip6_tables_names").write_text("mangle\nfilter\n")
    monkeypatch.setattr(firewall, "LISTING", ("echo", json.dumps(listing())))
    found = check_firewall(read_rules(tmp_path), SIX, "eth0", arrives=False, is_on_wire=False)
    assert [(one.state, "older iptables" in one.text) for one in found] == [("warn", True)]


# What is odd.


def test_rules_without_end() -> None:
    rules = listing(*[[MARK, ACCEPT]] * (MOST_STEPS + 1))
    found = check_firewall(Rules(Ruleset(rules)), SIX, "eth0", arrives=False, is_on_wire=False)
    assert [(one.state, "more rules" in one.text) for one in found] == [("warn", True)]
    deep: Any = 28_775
    for _ in range(50):
        deep = {"set": [deep]}
    assert fate(listing([payload("udp", "dport", deep), DROP])) == "maybe"


@pytest.mark.parametrize(
    "printed", [b"", b"{", b"[]", b"null", b'"x"', b'{"nftables": 5}', b"[" * 100_000, b"\xff"]
)
def test_listings_that_are_none(printed: bytes) -> None:
    rules = parse_rules(printed)
    assert rules is None or rules.chains == {}


WORDS = (
    "match left right op payload protocol field vmap key data set range prefix elem val jump "
    "target drop meta concat"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.sampled_from(["@m", "in", "f", "x*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS.split()),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4), JSON)
def test_any_json_is_read(statements: list, other: Any) -> None:
    rules = listing(statements, other, more=({"rule": other}, {"set": {"elem": other}}))
    assert fate(rules) in {"accept", "drop", "maybe"}
    Ruleset({"nftables": [other, *statements]})
