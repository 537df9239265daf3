from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from bulkhead.api.cidrs import CIDR_RULE
from bulkhead.api.fields import broken
from bulkhead.api.floor import FLOOR, SHARED_ADDRESS_SPACE

NETWORKS: list[Any] = [ipaddress.ip_network(entry.cidr) for entry in FLOOR]

CLOSED = {
    "metadata of AWS, Azure, Google Cloud, DigitalOcean, Hetzner, OpenStack": "169.254.169.254",
    "metadata of Tencent Cloud": "169.254.0.23",
    "metadata of Scaleway": "169.254.42.42",
    "credentials of ECS tasks": "169.254.170.2",
    "credentials of EKS pods": "169.254.170.23",
    "credentials of EKS pods over IPv6": "fd00:ec2::23",
    "the node-local DNS cache": "169.254.20.10",
    "metadata of AWS over IPv6": "fd00:ec2::254",
    "DNS of AWS over IPv6": "fd00:ec2::253",
    "metadata of Google Cloud over IPv6": "fd20:ce::254",
    "metadata of Oracle Cloud over IPv6": "fd00:c1::a9fe:a9fe",
    "metadata of Alibaba Cloud over IPv6": "fd00:100::100:200",
    "metadata of Scaleway over IPv6": "fd00:42::42",
    "metadata of Akamai over IPv6": "fd00:a9fe:a9fe::1",
    "metadata of OpenStack over IPv6": "fe80::a9fe:a9fe",
    "the host of an Azure VM": "168.63.129.16",
    "metadata of Alibaba Cloud": "100.100.100.200",
    "metadata of Oracle Cloud's classic machines": "192.0.0.192",
    "discovery of NAT64": "192.0.0.170",
    "carrier-grade NAT": "100.64.0.1",
    "this host": "0.0.0.0",  # noqa: S104 (an address to refuse)
    "loopback": "127.0.0.53",
    "multicast": "239.255.255.250",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "unspecified over IPv6": "::",
    "loopback over IPv6": "::1",
    "IPv4-compatible": "::a9fe:a9fe",
    "IPv4-mapped": "::ffff:a9fe:a9fe",
    "IPv4-translated": "::ffff:0:a9fe:a9fe",
    "NAT64": "64:ff9b::a9fe:a9fe",
    "local-use NAT64": "64:ff9b:1::a9fe:a9fe",
    "6to4": "2002:a9fe:a9fe::1",
    "Teredo": "2001::1",
    "link-local over IPv6": "fe80::1",
    "site-local": "fec0::1",
    "all nodes": "ff02::1",
}


@pytest.mark.parametrize("address", CLOSED.values(), ids=CLOSED.keys())
def test_the_floor_has(address: str) -> None:
    assert any(ipaddress.ip_address(address) in network for network in NETWORKS)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "198.18.0.1", "fd00::1", "2001:db8::1"])
def test_ordinary_addresses_are_not_on_the_floor(address: str) -> None:
    assert not any(ipaddress.ip_address(address) in network for network in NETWORKS)


@pytest.mark.parametrize("entry", FLOOR, ids=[entry.cidr for entry in FLOOR])
def test_each_entry_is_canonical_and_has_words_and_a_source(entry: Any) -> None:
    assert broken(entry.cidr, (CIDR_RULE,)) == []
    assert entry.what.strip(". ") == entry.what != ""
    assert entry.source.strip(". ") == entry.source != ""


def test_the_entries_are_in_order_and_none_is_there_twice() -> None:
    order = [(network.version, network.network_address, network.prefixlen) for network in NETWORKS]
    assert order == sorted(set(order))


def test_shared_address_space_alone_can_be_opened_and_metadata_inside_of_it_stays_closed() -> None:
    assert [entry.cidr for entry in FLOOR if entry.openable] == [SHARED_ADDRESS_SPACE]
    closed = [ipaddress.ip_network(entry.cidr) for entry in FLOOR if not entry.openable]
    assert any(ipaddress.ip_address("100.100.100.200") in network for network in closed)
