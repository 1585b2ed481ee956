"""How late answers are."""

from __future__ import annotations

import pytest

from coadtr.live.lag import Lag, Spread


def test_a_queue_that_grows_is_counted_however_long() -> None:
    lag = Lag()
    for index in range(36_000):  # an hour of a reader that is 1 % too slow, and so never waits
        lag.arrived(index / 10, 50.0 + index / 10 * 1.01, waited=index == 0)
    assert lag.behind(3599.9, 50.0 + 3599.9 * 1.01) == pytest.approx(35.999)


def test_a_burst_at_the_start_is_no_lead() -> None:
    lag = Lag()
    for index in range(10):  # a second of old frames comes at once
        lag.arrived(index / 10, 20.0, waited=False)
    for index in range(10, 20):
        lag.arrived(index / 10, 20.0 + index / 10, waited=True)
    # The last of the burst shows how early a frame can be.
    assert lag.behind(1.9, 21.9) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("drift", [-5e-4, 5e-4, 4e-3])
def test_a_clock_that_drifts_is_followed(drift: float) -> None:
    lag = Lag()
    for index in range(36_000):  # an hour, each frame waited for
        lag.arrived(index / 10, 7.0 + index / 10 * (1 + drift), waited=True)
    assert lag.behind(3599.9, 7.0 + 3599.9 * (1 + drift)) < 0.02


def test_an_origin_that_is_known_stays() -> None:
    lag = Lag(100.0)
    lag.arrived(1.0, 50.0, waited=True)
    assert lag.behind(1.0, 101.5) == 0.5
    assert lag.behind(5.0, 101.5) == 0.0


def test_nothing_is_known_before_the_first_frame() -> None:
    assert Lag().behind(3.0, 1e6) == 0.0
    assert Spread().typical() is None


def test_old_values_are_forgotten() -> None:
    spread = Spread(most=10)
    for value in (*[1e9] * 50, *range(10)):
        spread.add(value)
    assert spread.typical() == pytest.approx((4.5, 8.55))
