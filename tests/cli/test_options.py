"""Options of a function as settings: each is checked against the kind that its annotation names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from coadtr.cli.options import typed_options
from coadtr.errors import ConfigError


def _plan(
    source: object,
    *,
    seed: int = 0,
    rate_hz: float | None = None,
    name: str = "x",
    deep: bool = False,
    streams: Sequence[str] | None = None,
    features: Mapping[str, str] | str = "a",
) -> None:
    """Stand for an importer."""


def test_values_of_the_right_kind_come_through() -> None:
    given: dict[str, Any] = {
        "seed": 3,
        "rate_hz": 4,
        "name": "y",
        "deep": True,
        "streams": ["rgb", "flow"],
        "features": {"rgb": "folder"},
    }
    assert typed_options(_plan, given) == given
    assert typed_options(_plan, {"rate_hz": None, "streams": None}) == {"rate_hz": None, "streams": None}
    assert typed_options(_plan, {"streams": "rgb", "features": "folder"}) == {"streams": ["rgb"], "features": "folder"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": 1}, "options.seeds is not an option here; the options are seed, rate_hz"),
        ({"seed": "1"}, "options.seed must be a whole number, got '1'"),
        ({"seed": True}, "options.seed must be a whole number, got True"),
        ({"seed": None}, "options.seed must be given, got null"),
        ({"rate_hz": "fast"}, "options.rate_hz must be a number, got 'fast'"),
        ({"name": 3}, "options.name must be text"),
        ({"deep": 1}, "options.deep must be true or false, got 1"),
        ({"streams": [1]}, "options.streams must be text"),
        ({"features": 3}, "options.features must be text"),
        ({"name": {"a": "b"}}, "options.name must be text"),
    ],
)
def test_other_values_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        typed_options(_plan, given)
