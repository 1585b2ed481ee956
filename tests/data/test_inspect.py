"""The summary counts what the store holds, and the table shows it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from coadtr.data import FeatureStore, render, summarise
from coadtr.data.progress import progress


def test_summary_counts_videos_frames_and_classes(store: FeatureStore) -> None:
    summary = summarise(store)
    assert [(split.split, split.videos, split.frames) for split in summary.splits] == [
        ("train", 2, 37),
        ("validation", 1, 7),
        ("test", 1, 31),
    ]
    assert (summary.videos, summary.frames) == (4, 75)
    assert summary.hours == pytest.approx(75 / 5 / 3600)
    assert [sum(split.class_frames) for split in summary.splits] == [37, 7, 31]
    assert (summary.background, summary.ignored) == ("background", "ambiguous")
    assert summary.fingerprint == store.fingerprint()


def test_table_shows_it(store: FeatureStore) -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(render(summarise(store)))
    text = out.getvalue()
    for part in (
        "store.h5",
        "rgb 6, flow 3",
        "5 Hz",
        "made for a test",
        "3 ambiguous (ignored)",
        "0 background (background)",
    ):
        assert part in text
    assert [word for line in text.splitlines() if "frames" in line for word in line.split() if word.isdigit()] == [
        "37",
        "7",
        "31",
        "75",
    ]


def test_class_names_are_not_markup(store: FeatureStore) -> None:
    summary = summarise(store)
    out = io.StringIO()
    named = type(summary)(**{**_fields(summary), "class_names": ("[red]x[/red]", "[/]", "c", "d")})
    Console(file=out, width=200).print(render(named))
    assert "[red]x[/red]" in out.getvalue()
    assert "[/]" in out.getvalue()


def _fields(summary: Any) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in summary.__slots__}


def test_progress_is_for_terminals_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(progress(range(3), total=3, description="import")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(progress(range(3), total=3, description="import")) == [0, 1, 2]
    assert capsys.readouterr().out == ""
