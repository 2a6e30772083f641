"""Does a histogram count what it was told, by the bounds that it was given?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.histogram import LONG_SECONDS, SHORT_SECONDS, Histogram

VALUES = st.lists(st.one_of(st.sampled_from(SHORT_SECONDS), st.floats(0, 100)))


@given(VALUES)
def test_each_bound_has_all_that_do_not_exceed_it(values: list[float]) -> None:
    histogram = Histogram()

    for value in values:
        histogram.observe(value)

    edges = dict(histogram.cumulative())
    assert edges == {edge: sum(value <= edge for value in values) for edge in (*SHORT_SECONDS, float("inf"))}
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(sum(values))


def test_bounds_must_rise() -> None:
    assert list(LONG_SECONDS) == sorted(LONG_SECONDS)
    with pytest.raises(AssertionError, match="bounds must rise"):
        Histogram((1.0, 1.0))
