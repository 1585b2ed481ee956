"""How late answers are."""

from __future__ import annotations

import pytest

from coadtr.live.lag import Lag, Spread


def test_a_queue_that_grows_is_counted() -> None:
    lag = Lag()
    for index in range(100):
        lag.arrived(index / 10, 50.0 + index / 10 + 0.002 * index)
    assert lag.behind(9.9, 50.0 + 9.9 + 0.198) == pytest.approx(0.198)


def test_a_burst_at_the_start_is_no_lead() -> None:
    lag = Lag()
    for index in range(10):  # a second of old frames comes at once
        lag.arrived(index / 10, 20.0)
    for index in range(10, 20):
        lag.arrived(index / 10, 20.0 + index / 10)
    # The last of the burst shows how early a frame can be.
    assert lag.behind(1.9, 21.9) == pytest.approx(0.9)


def test_a_clock_that_drifts_is_followed() -> None:
    lag = Lag()
    for index in range(0, 36_000, 10):  # an hour, in which the camera loses half a second
        lag.arrived(index / 10, 7.0 + index / 10 * (1 + 0.5 / 3600))
    assert lag.behind(3599.0, 7.0 + 3599.0 * (1 + 0.5 / 3600)) < 0.02


def test_an_origin_that_is_known_stays() -> None:
    lag = Lag(100.0)
    lag.arrived(1.0, 50.0)
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
