"""What is said about measurements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Figure, Spread, latency, percentile, ratios

TIMES = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1)


@pytest.mark.parametrize(
    ("share", "wanted"),
    [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)],
)
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(share: float, wanted: int) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == wanted


@given(values=TIMES, share=st.floats(min_value=0.01, max_value=1))
def test_a_percentile_is_a_value_that_was_measured_and_enough_are_not_above_it(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_a_percentile_of_nothing_or_beyond_the_whole_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, share)


def test_rounds_are_summed_up_by_their_median_and_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, least=1.0, most=3.0)


@pytest.mark.parametrize(("goal", "met"), [(None, None), (2.0, True), (1.9, False)])
def test_a_goal_is_met_when_the_median_does_not_exceed_it(goal: float | None, met: bool | None) -> None:
    assert Figure(group="g", name="n", unit="ms", rounds=(9.0, 1.0, 2.0), goal=goal).met is met


def test_latencies_are_given_in_milliseconds_for_each_round() -> None:
    half, most = latency("g", "n", [[0.001, 0.002, 0.003], [0.004, 0.005, 0.006]], goals=(20.0, 60.0))
    assert (half.name, half.rounds, half.goal) == ("n, p50", (2.0, 5.0), 20.0)
    assert (most.name, most.rounds, most.goal) == ("n, p99", (3.0, 6.0), 60.0)


def test_a_ratio_compares_each_round_with_the_same_round_of_the_other() -> None:
    half, most = ratios("g", "n", [[2.0, 4.0], [9.0, 9.0]], [[1.0, 1.0], [3.0, 9.0]], goal=1.5)
    assert (half.rounds, half.goal) == ((2.0, 3.0), 1.5)
    assert (most.rounds, most.goal) == ((4.0, 1.0), None)
