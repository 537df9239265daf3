"""Waiting between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bulkhead.cluster.backoff import Backoff


def test_delays_double_up_to_the_limit() -> None:
    backoff = Backoff(first=0.1, limit=3.0, rand=lambda: 1.0)
    assert [round(backoff.next(), 3) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]


def test_a_reset_starts_a_new_streak() -> None:
    backoff = Backoff(first=0.1, limit=3.0, rand=lambda: 1.0)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.failures == 0
    assert round(backoff.next(), 3) == 0.1


def test_what_the_server_asks_for_is_waited_at_least() -> None:
    assert Backoff(first=0.1, limit=3.0).next(at_least=7.0) == 7.0


@given(st.integers(0, 5000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_zero_and_never_over_the_limit(failures: int, rand: float) -> None:
    backoff = Backoff(first=0.1, limit=3.0, rand=lambda: rand)
    backoff.failures = failures
    assert 0.05 <= backoff.next() <= 3.0
