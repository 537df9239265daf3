"""Arithmetic on networks: tables of named cases, and everything against plain `ipaddress`."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan import addresses
from bulkhead.plan.addresses import Network, Table, network
from tests.unit.plan.policies import remains, touch


def networks_of(*texts: str) -> list[Network]:
    return [network(text) for text in texts]


@pytest.mark.parametrize(
    ("cidr", "excepts", "forbidden", "expected"),
    [
        pytest.param("10.0.0.0/8", [], "10.1.0.0/16", True, id="around it"),
        pytest.param("10.1.2.0/24", [], "10.1.0.0/16", True, id="inside of it"),
        pytest.param("10.1.0.0/16", [], "10.1.0.0/16", True, id="the same"),
        pytest.param("10.2.0.0/16", [], "10.1.0.0/16", False, id="beside it"),
        pytest.param("10.0.0.0/8", ["10.1.0.0/16"], "10.1.0.0/16", False, id="excepted"),
        pytest.param("10.0.0.0/8", ["10.0.0.0/12"], "10.1.0.0/16", False, id="excepted with more"),
        pytest.param("10.0.0.0/8", ["10.1.0.0/17"], "10.1.0.0/16", True, id="half of it excepted"),
        pytest.param("10.0.0.0/8", ["10.1.128.0/17", "10.1.0.0/17"], "10.1.0.0/16", False, id="excepted in halves"),
        pytest.param("10.0.0.0/8", ["10.1.0.0/17", "10.1.128.0/18"], "10.1.0.0/16", True, id="a quarter left"),
        pytest.param("10.1.2.0/24", ["10.1.2.0/25", "10.1.2.128/25"], "10.1.0.0/16", False, id="nothing left at all"),
        pytest.param("10.0.0.0/8", ["10.1.0.0/16", "10.1.0.0/24"], "10.1.0.0/16", False, id="exceptions that overlap"),
        pytest.param("0.0.0.0/0", [], "::/0", False, id="the other family"),
        pytest.param("::/0", [], "0.0.0.0/0", False, id="the other family around"),
        pytest.param("::/0", ["2001:db8::/32"], "2001:db8:1::/48", False, id="excepted in IPv6"),
        pytest.param("2001:db8::/32", [], "2001:db8::7/128", True, id="one address of IPv6"),
        pytest.param("255.255.255.255/32", [], "0.0.0.0/0", True, id="the last address"),
        pytest.param("::/0", ["::/1", "8000::/1"], "::/0", False, id="everything excepted"),
    ],
)
def test_what_is_left_of_a_network_reaches_another_or_does_not(
    cidr: str, excepts: list[str], forbidden: str, expected: bool
) -> None:
    assert addresses.reaches(network(cidr), networks_of(*excepts), network(forbidden)) is expected


@pytest.mark.parametrize(
    ("cidr", "forbidden", "expected"),
    [
        pytest.param("10.0.0.0/8", ["10.1.0.0/16"], ["10.1.0.0/16"], id="one inside"),
        pytest.param("10.0.0.0/8", ["11.0.0.0/8", "::/0"], [], id="none inside"),
        pytest.param("10.0.0.0/8", ["10.1.0.0/16", "10.1.2.0/24"], ["10.1.0.0/16"], id="one in another"),
        pytest.param("10.0.0.0/8", ["10.3.0.0/16", "10.2.0.0/16"], ["10.2.0.0/15"], id="two that make one"),
        pytest.param(
            "10.0.0.0/8", ["10.1.0.0/16", "10.2.0.0/16"], ["10.1.0.0/16", "10.2.0.0/16"], id="two that do not"
        ),
        pytest.param("10.0.0.0/8", ["0.0.0.0/0"], ["10.0.0.0/8"], id="nothing would be left"),
        pytest.param("10.0.0.0/8", ["10.0.0.0/9", "10.128.0.0/9"], ["10.0.0.0/8"], id="nothing is left by two"),
        pytest.param("::/0", ["2001:db8::/32", "fd00::/8"], ["2001:db8::/32", "fd00::/8"], id="IPv6"),
    ],
)
def test_the_exceptions_that_are_needed_are_named(cidr: str, forbidden: list[str], expected: list[str]) -> None:
    assert addresses.needed_exceptions(network(cidr), networks_of(*forbidden)) == tuple(networks_of(*expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.7", "10.0.0.7/32"),
        ("2001:db8::7", "2001:db8::7/128"),
        ("255.255.255.255", "255.255.255.255/32"),
        ("::", "::/128"),
    ],
)
def test_the_network_of_one_address_holds_it_alone(text: str, expected: str) -> None:
    assert str(addresses.host(text)) == expected


@pytest.mark.parametrize("text", ["", "10.0.0.0/8", "node-1", "10.0.0", None])
def test_what_is_no_address_has_no_network(text: Any) -> None:
    with pytest.raises(ValueError, match="address"):
        addresses.host(text)


def test_host_bits_are_no_network() -> None:
    with pytest.raises(ValueError, match="host bits"):
        network("10.0.0.1/8")


# A few addresses, so that networks often meet.
_BITS = 4


@st.composite
def small(draw: st.DrawFn) -> Network:
    version = draw(st.sampled_from([4, 6]))
    room = draw(st.integers(0, _BITS))
    number = draw(st.integers(0, 2**_BITS - 1)) >> room << room
    if version == 4:
        return ipaddress.IPv4Network((int(ipaddress.IPv4Address("10.0.0.0")) + number, 32 - room))
    return ipaddress.IPv6Network((int(ipaddress.IPv6Address("2001:db8::")) + number, 128 - room))


def addresses_of(networks: list[Network]) -> set[Any]:
    return {address for one in networks for address in one}


@given(small(), st.lists(small(), max_size=6), small())
def test_reaching_is_having_an_address_left(cidr: Network, excepts: list[Network], forbidden: Network) -> None:
    left = addresses_of([cidr]) - addresses_of(excepts)
    assert addresses.reaches(cidr, excepts, forbidden) == bool(left & addresses_of([forbidden]))


@given(small(), st.lists(small(), max_size=6))
def test_needed_exceptions_are_all_of_the_forbidden_and_nothing_else(cidr: Network, forbidden: list[Network]) -> None:
    needed = addresses.needed_exceptions(cidr, forbidden)

    assert addresses_of(list(needed)) == addresses_of([cidr]) & addresses_of(forbidden)
    assert list(needed) == list(ipaddress.collapse_addresses(needed))  # type: ignore[type-var]


@given(small(), st.lists(small(), max_size=6))
def test_what_is_left_is_the_whole_without_its_parts(whole: Network, parts: list[Network]) -> None:
    nested = [one for one in parts if addresses.inside(one, whole)]
    left = addresses.without(whole, parts)

    assert addresses_of(list(left)) == addresses_of([whole]) - addresses_of(nested)
    assert len(addresses_of(list(left))) == sum(one.num_addresses for one in left)


@given(st.lists(small(), max_size=5), st.lists(small(), max_size=5))
def test_what_is_common_lies_in_both(some: list[Network], others: list[Network]) -> None:
    assert addresses_of(list(addresses.common(some, others))) == addresses_of(some) & addresses_of(others)


@given(st.lists(small(), max_size=8), small(), st.lists(small(), max_size=4))
def test_a_table_finds_what_comparing_each_finds(known: list[Network], cidr: Network, excepts: list[Network]) -> None:
    table = Table((one, index) for index, one in enumerate(known))
    left = remains(str(cidr), [str(one) for one in excepts])

    expected = {index for index, one in enumerate(known) if any(touch(one, part) for part in left)}
    found = table.reached(cidr, excepts)
    assert set(found) == expected
    assert len(found) == len(expected)
    assert table.holds(cidr) == any(addresses.inside(cidr, one) for one in known)


@given(st.lists(small(), max_size=8), small())
def test_a_table_gives_what_it_finds_by_address(known: list[Network], cidr: Network) -> None:
    found = Table((one, one) for one in known).reached(cidr)
    assert list(found) == sorted(found, key=lambda one: (int(one.network_address), one.prefixlen))
