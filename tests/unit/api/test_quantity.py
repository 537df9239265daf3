from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.quantity import LARGEST, Quantity, canonical

# Text, canonical form and number. The forms are those of apimachinery's own documentation and of a real API server.
KNOWN = [
    ("0", "0", "0"),
    ("0Gi", "0", "0"),
    ("1", "1", "1"),
    ("+1", "1", "1"),
    ("-1500m", "-1500m", "-1.5"),
    ("1.5", "1500m", "1.5"),
    ("0.1", "100m", "0.1"),
    (".5", "500m", "0.5"),
    ("5.", "5", "5"),
    ("007", "7", "7"),
    ("1000", "1k", "1000"),
    ("1001", "1001", "1001"),
    ("1000m", "1", "1"),
    ("1500k", "1500k", "1500000"),
    ("1000000k", "1G", "1000000000"),
    ("1.5Gi", "1536Mi", "1610612736"),
    ("1024Mi", "1Gi", "1073741824"),
    ("1000Mi", "1000Mi", "1048576000"),
    ("0.5Ki", "512", "512"),
    ("1.3Ki", "1331200m", "1331.2"),
    ("1Ei", "1Ei", "1152921504606846976"),
    ("12e6", "12e6", "12000000"),
    ("1500e3", "1500e3", "1500000"),
    ("1e4", "10e3", "10000"),
    ("1E3", "1e3", "1000"),
    ("1e0", "1", "1"),
    ("1e-3", "1e-3", "0.001"),
    ("1n", "1n", "0.000000001"),
    ("1.5n", "2n", "0.000000002"),
    ("0.1n", "1n", "0.000000001"),
    ("-0.1n", "-1n", "-0.000000001"),
    ("9223372036854775807", "9223372036854775807", "9223372036854775807"),
]


@pytest.mark.parametrize("text, form, number", KNOWN, ids=[text for text, _, _ in KNOWN])
def test_a_quantity_is_read_and_written_as_kubernetes_does(text: str, form: str, number: str) -> None:
    assert canonical(text) == form
    assert Quantity.parse(text).value == Decimal(number)


@pytest.mark.parametrize(
    "text",
    ["", " ", ".", "-", "1 Gi", "1gi", "1K", "Gi", "1e", "1e1.5", "0x10", "1,5", "١", "1Gi\n", "NaN", "inf", "1_000"],  # noqa: RUF001
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        Quantity.parse(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775808", "8Ei", "10E", "1e19", "1e999"])
def test_what_is_larger_than_kubernetes_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too large"):
        Quantity.parse(text)


@pytest.mark.parametrize(
    "text",
    ["1" * 65, "1e1000000000", "1" * 1_000_000, "0." + "0" * 100 + "1"],
    ids=["65 digits", "a huge exponent", "a million digits", "a hundred decimals"],
)
def test_a_text_of_any_length_is_refused_at_once_in_a_short_message(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        Quantity.parse(text)
    assert len(str(refused.value)) < 200


def test_quantities_compare_by_number_whatever_their_form() -> None:
    assert Quantity.parse("1Gi") == Quantity.parse("1024Mi") == Quantity.parse("1073741824")
    assert hash(Quantity.parse("1Gi")) == hash(Quantity.parse("1024Mi"))
    assert Quantity.parse("1G") < Quantity.parse("1Gi")
    assert Quantity.parse("1500m") > Quantity.parse("1")
    assert Quantity.parse("1") != "1"


texts = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    st.one_of(st.integers(0, 10**12).map(str), st.decimals(0, 10**6, places=4).map("{:f}".format)),
    st.sampled_from(["", "n", "u", "m", "k", "M", "Ki", "Mi", "e1", "e2", "E3", "e-2"]),
)


@given(texts)
def test_the_canonical_form_is_stable_and_loses_nothing(text: str) -> None:
    form = canonical(text)
    assert canonical(form) == form
    assert Quantity.parse(form) == Quantity.parse(text)
    assert "." not in form
    assert not form.startswith("+")


@given(texts, texts)
def test_order_is_that_of_the_numbers(one: str, other: str) -> None:
    first, second = Quantity.parse(one), Quantity.parse(other)
    assert (first < second) == (first.value < second.value)
    assert (first == second) == (first.value == second.value)


@given(st.text(max_size=70))
def test_any_text_is_either_a_quantity_or_refused(text: str) -> None:
    try:
        amount = Quantity.parse(text)
    except ValueError:
        return
    assert abs(amount.value) <= LARGEST
    assert Quantity.parse(str(amount)) == amount
