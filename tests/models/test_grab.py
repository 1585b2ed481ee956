"""GRAB: what cannot be built is refused. (Steps: tests/laws; its parts: tests/layers/test_recurrence.py.)"""

from __future__ import annotations

import math
from typing import Any

import pytest

from coadtr.errors import ConfigError
from coadtr.models import GRABConfig


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shortest_horizon": 1.0}, "got shortest_horizon=1.0 and longest_horizon=256.0"),
        ({"longest_horizon": 2.0}, "got shortest_horizon=4.0 and longest_horizon=2.0"),
        ({"longest_horizon": math.inf}, "got shortest_horizon=4.0 and longest_horizon=inf"),
        ({"horizons": 0}, "horizons must be a whole number of at least 1, got 0"),
    ],
)
def test_horizons_that_do_not_rise_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GRABConfig(input_dim=4, num_classes=2, **settings)
