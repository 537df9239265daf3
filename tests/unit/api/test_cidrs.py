from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkhead.api.cidrs import ADDRESS_RULE, CIDR_RULE, within
from bulkhead.api.fields import broken
from tests import network_specs


@pytest.mark.parametrize("text, accepted", network_specs.CIDRS.items(), ids=map(repr, network_specs.CIDRS))
def test_a_network_has_one_accepted_spelling(text: str, accepted: bool) -> None:
    assert (broken(text, (CIDR_RULE,)) == []) is accepted


@pytest.mark.parametrize("text, accepted", network_specs.ADDRESSES.items(), ids=map(repr, network_specs.ADDRESSES))
def test_a_canary_is_one_address_that_another_machine_can_have(text: str, accepted: bool) -> None:
    assert (broken(text, (ADDRESS_RULE,)) == []) is accepted


@given(network_specs.cidrs())
def test_every_network_that_the_strategy_makes_is_accepted(text: str) -> None:
    assert broken(text, (CIDR_RULE,)) == []


@given(st.one_of(st.text(max_size=50), st.from_regex(r"\A[0-9a-f:.]{0,40}/?[0-9]{0,3}\Z")))
@example("::ffff:1.2.3.4/128")
def test_what_is_accepted_is_the_text_that_the_network_itself_prints(text: str) -> None:
    if not broken(text, (CIDR_RULE,)):
        assert str(ipaddress.ip_network(text)) == text


@pytest.mark.parametrize(
    "inner, outer, expected",
    [
        ("10.1.0.0/16", ["10.0.0.0/8"], True),
        ("10.0.0.0/8", ["10.0.0.0/8"], True),
        ("10.0.0.0/8", ["10.1.0.0/16"], False),
        ("10.0.0.0/8", ["10.0.0.0/9", "10.128.0.0/9"], False),
        ("10.1.0.0/16", ["11.0.0.0/8", "10.0.0.0/8"], True),
        ("10.1.0.0/16", ["::/0"], False),
        ("2001:db8::/32", ["0.0.0.0/0"], False),
        ("2001:db8::/32", ["::/0"], True),
        ("10.1.0.0/16", [], False),
        ("10.1.0.1/16", ["10.0.0.0/8"], False),
        ("10.1.0.0/16", ["10.0.0.1/8"], False),
        ("", ["10.0.0.0/8"], False),
    ],
)
def test_a_network_lies_within_another(inner: str, outer: list[str], expected: bool) -> None:
    assert within(inner, *outer) is expected
