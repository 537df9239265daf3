from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.gate import linklocal, settings
from bulkhead.gate.settings import Settings, SettingsError


def environment(targets: str = "db TCP 10.0.0.1 5432", interval: str = "10", **more: str) -> dict[bytes, bytes]:
    told = {
        "BULKHEAD_GATE_TARGETS": targets,
        "BULKHEAD_GATE_INTERVAL": interval,
        "BULKHEAD_GATE_MESSAGE_PATH": "/dev/termination-log",
        **more,
    }
    return {name.encode(): value.encode() for name, value in told.items()}


def read(targets: str, *, nodes: str = "") -> list[tuple[str, bool]]:
    found = Settings(environment(targets, BULKHEAD_NODE_IPS=nodes)).targets
    return [(str(target), target.balanced) for target in found]


def test_targets_are_lines_of_name_protocol_address_and_port() -> None:
    assert read("\ndb TCP 10.0.0.1 5432\n\ndns UDP fd00::53 53 balanced\n") == [
        ("db TCP 10.0.0.1 5432", False),
        ("dns UDP fd00::53 53", True),
    ]


def test_a_target_on_the_node_is_one_for_each_of_its_addresses() -> None:
    assert read("kubelet TCP node 10250", nodes="10.0.0.9,fd00::9") == [
        ("kubelet TCP 10.0.0.9 10250", True),
        ("kubelet TCP fd00::9 10250", True),
    ]


def test_an_api_server_on_the_pod_s_own_node_is_behind_that_node_s_filter_too() -> None:
    assert read("api-server TCP 10.0.0.9 6443\napi-server TCP 10.0.0.8 6443", nodes="10.0.0.9") == [
        ("api-server TCP 10.0.0.9 6443", True),
        ("api-server TCP 10.0.0.8 6443", False),
    ]


REFUSED = {
    "no targets": ({"targets": " \n "}, "names no target, so nothing would be proven"),
    "too few words": ({"targets": "a TCP 10.0.0.1"}, "line 1 of BULKHEAD_GATE_TARGETS, 'a TCP 10.0.0.1', is no target"),
    "too many words": ({"targets": "a TCP 10.0.0.1 1 x"}, "is no target"),
    "another protocol": ({"targets": "a SCTP 10.0.0.1 1"}, "accepted is: NAME TCP|UDP ADDRESS PORT"),
    "a name for an address": ({"targets": "a TCP db 1"}, "'db' is not an IP address"),
    "a network": ({"targets": "a TCP 10.0.0.0/8 1"}, "'10.0.0.0/8' is not an IP address"),
    "port 0": ({"targets": "a TCP 10.0.0.1 0"}, "'0' is no port; accepted is a number from 1 to 65535"),
    "port 65536": ({"targets": "a TCP 10.0.0.1 65536"}, "is no port"),
    "a port in other digits": ({"targets": "a TCP 10.0.0.1 ٣"}, "is no port"),
    "the second line": ({"targets": "a TCP 10.0.0.1 1\nb"}, "line 2 of"),
    "a node without address": ({"targets": "a TCP node 1"}, "BULKHEAD_NODE_IPS gives none of its addresses"),
    "a node whose address is none": ({"BULKHEAD_NODE_IPS": "here"}, "'here' is not an IP address"),
    "no interval": ({"interval": ""}, "BULKHEAD_GATE_INTERVAL is ''; accepted is a whole number from 1 to 3600"),
    "an interval of nothing": ({"interval": "0"}, "accepted is a whole number from 1 to 3600"),
    "an interval with a unit": ({"interval": "10s"}, "is '10s'"),
}


@pytest.mark.parametrize(("told", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_environment_is_refused_in_words(told: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings(environment(**told))
    assert words in str(refusal.value)


@pytest.mark.parametrize("name", ["BULKHEAD_GATE_TARGETS", "BULKHEAD_GATE_INTERVAL", "BULKHEAD_GATE_MESSAGE_PATH"])
def test_what_is_not_set_is_named(name: str) -> None:
    told = environment()
    del told[name.encode()]
    with pytest.raises(SettingsError, match=f"{name} is not set"):
        Settings(told)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        found = Settings(environment(text.encode("utf-8", "replace").decode())).targets
    except SettingsError:
        return
    assert found


@given(st.ip_addresses())
def test_every_address_is_packed_as_it_is_on_the_wire(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert settings.pack(str(address)) == address.packed


LISTING = """\
00000000000000000000000000000001 01 80 10 80       lo
fd440000000000000000000000000005 0c 40 00 80     eth0
fe80000000000000a8bbccfffeddee01 0c 40 20 {flags}     eth0
"""


@pytest.mark.parametrize(("flags", "settling"), [("80", False), ("c0", True), ("40", True), ("48", False)])
def test_an_address_settles_until_its_duplicate_check_is_over_or_has_failed(flags: str, settling: bool) -> None:
    found = linklocal.Interfaces(LISTING.format(flags=flags))
    assert found.settling is settling
    assert found.names == {12: "eth0"}
    assert ipaddress.ip_address("fd44::5").packed in found.own
    assert len(found.own) == 2
