"""Rates that are no rates are refused by every planner, before anything is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from coadtr.data.importers import planner
from coadtr.errors import ConfigError

RATES: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("rate_hz", {"features": "features"}),
    "csv of frames": ("fps", {"features": "features", "unit": "frames"}),
    "lstr": ("rate_hz", {}),
    "oadtr": ("rate_hz", {}),
    "stream-csv": ("rate_hz", {}),
    "thumos14": ("fps", {"features": "features"}),
    "thumos14 without": ("missing_fps", {"features": "features"}),
    "tvseries": ("rate_hz", {}),
}


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -5.0, True])
@pytest.mark.parametrize("kind", RATES)
def test_rates_that_are_wrong(kind: str, value: float) -> None:
    option, options = RATES[kind]
    plan: Any = planner(kind.partition(" ")[0])
    with pytest.raises(ConfigError, match=f"{option}={value!r}: give the .*frames a second.*, a positive number"):
        plan(Path("nowhere"), **options, **{option: value})
