"""Options of a function as settings: each is checked against the kind that its annotation names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from coadtr.cli.options import as_settings, settings_named, typed_options
from coadtr.errors import ConfigError, DataError, SourceError, StorageError


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


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("drop its rows, or say missing=skip", "drop its rows, or say options.missing=skip"),
        ("overlap='fist': use one of 'multi-hot'", "options.overlap='fist': use one of 'multi-hot'"),
        ("made at 4 Hz: drop rate_hz", "made at 4 Hz: drop options.rate_hz"),
        ("at 4 Hz: drop rate_hz; video 'b': ends", "at 4 Hz: drop options.rate_hz; video 'b': ends"),
        ("give rate_hz, the frames a second", "give options.rate_hz, the frames a second"),
        ("rate_hz must be given: the rate", "options.rate_hz must be given: the rate"),
        ("choose one with dataset=, out of 'A'", "choose one with options.dataset=, out of 'A'"),
        # Nothing that is no option, and nothing twice; files and names stay what they are.
        ("say align=trim", "say align=trim"),
        ("say options.missing=skip", "say options.missing=skip"),
        ("/data/missing=skip.csv: drop the column rate_hz", "/data/missing=skip.csv: drop the column rate_hz"),
        ("video 'missing=1': drop one of the two", "video 'missing=1': drop one of the two"),
        ("my_missing=1, rate_hz of the video", "my_missing=1, rate_hz of the video"),
    ],
)
def test_remedies_name_settings(said: str, shown: str) -> None:
    def plan(*, missing: str, overlap: str, rate_hz: float, dataset: str) -> None:
        """Stand for an importer."""

    assert as_settings(said, plan) == shown


@pytest.mark.parametrize("kind", [ConfigError, DataError, StorageError])
def test_errors_are_told_in_settings_and_stay_what_they_are(kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^a\.csv: say labels\.seed=1$") as caught, settings_named(_plan, "labels"):
        raise kind("a.csv: say seed=1")
    assert type(caught.value) is kind
    with pytest.raises(KeyError, match="seed=1"), settings_named(_plan):
        raise KeyError("seed=1")


def test_a_dry_run_prints_all_problems(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [f"row {row}: say seed={row}" for row in range(2, 32)]
    with (
        pytest.raises(SourceError, match=r"row 2: say options\.seed=2; .*; and 10 more") as short,
        settings_named(_plan),
    ):
        raise SourceError("a.csv", problems)
    assert short.value.problems[29] == "row 31: say options.seed=31"
    assert capsys.readouterr().out == ""
    with (
        pytest.raises(DataError, match=r"^a\.csv: 30 problems, all printed above$"),
        settings_named(_plan, dry_run=True),
    ):
        raise SourceError("a.csv", problems)
    assert capsys.readouterr().out.splitlines() == [f"row {row}: say options.seed={row}" for row in range(2, 32)]
    with pytest.raises(SourceError, match=r"^a\.csv: row 2"), settings_named(_plan, dry_run=True):
        raise SourceError("a.csv", problems[:1])
    assert capsys.readouterr().out == ""
