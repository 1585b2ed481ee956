"""The page as text: whole, self-contained, and unharmed by what files say."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.errors import ConfigError
from coadtr.reporting import facts, figures, pairs
from coadtr.reporting.packing import unpack_video
from coadtr.reporting.page import render_page
from coadtr.reporting.runs import find_runs
from coadtr.reporting.timeline import list_videos
from tests.reporting.conftest import NASTY, write_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

VIDEOS = ("<img src=x onerror=alert(1)>", "<script>alert(2)<!--", '"quoted" & it\'s', "{{ 7 * 7 }}")


class _Page(HTMLParser):
    """Collect elements, texts and the contents of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.words: list[str] = []
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id") or f"code-{len(self.scripts)}"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] += data
        else:
            self.words.append(data)


# A page takes a second to make: those below are looked at by several tests.


class _Shown:
    """A page, and the runs that it is of."""

    def __init__(self, paths: Sequence[Path], title: str, notes: Sequence[str] = ()) -> None:
        self.runs = find_runs(paths)
        self.text = render_page(self.runs, title=title, notes=notes)
        self.page = _Page(self.text)


def _intervals(videos: int) -> dict[str, Any]:
    return {"intervals": {"level": 0.95, "videos": videos, "mAP": [0.1, 0.9], "mcAP": None, "accuracy": None}}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> _Shown:
    run = write_run(tmp_path_factory.mktemp("one") / "a", ignored=1, changes=_intervals(10))
    return _Shown([run], "One")


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> _Shown:
    run = write_run(tmp_path_factory.mktemp("noted") / "a", changes=_intervals(50))
    return _Shown([run], "Title", ["First <b>", "Second"])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> _Shown:
    folder = tmp_path_factory.mktemp("two")
    return _Shown([write_run(folder / "a"), write_run(folder / "b", seed=1, skill=3.0)], "Two")


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> _Shown:
    folder = tmp_path_factory.mktemp("nasty")
    options: dict[str, Any] = {"classes": len(NASTY), "class_names": NASTY, "video_names": VIDEOS, "background": None}
    runs = [write_run(folder / "salads-oadtr_b1", **options), write_run(folder / "<i>-x", seed=1, **options)]
    return _Shown(runs, "<script>alert(3)</script> & more")


def test_text_from_files_stays_text(nasty: _Shown, two: _Shown) -> None:
    page, plain = nasty.page, two.page
    named = [name for name in page.scripts if not name.startswith("code")]
    assert named == ["index", *(f"scores-{run}-{video}" for run in range(2) for video in range(len(VIDEOS)))]
    assert len(page.scripts) - len(named) == len(plain.scripts) - len(named) == 2
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    words = "\n".join(page.words)
    for name in (*NASTY, *VIDEOS, "<script>alert(3)</script> & more"):
        assert name in words
    index = json.loads(page.scripts["index"])
    assert index["classes"] == list(NASTY)
    assert {video["name"] for video in index["videos"]} == set(VIDEOS)


def test_page_asks_the_network_for_nothing(one: _Shown) -> None:
    page = one.page
    places = [value for _, found in page.elements for name, value in found.items() if name in {"src", "href"}]
    assert all(value is not None and value.startswith(("#", "data:")) for value in places)
    policy = [found["content"] for tag, found in page.elements if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0] is not None
    assert policy[0].startswith("default-src 'none'")


def test_page_can_be_read_aloud(two: _Shown) -> None:
    page = two.page
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == 1
    heads = [found for tag, found in page.elements if tag == "th"]
    assert all(found.get("scope") in {"row", "col", "rowgroup"} for found in heads)
    assert tags.count("caption") == tags.count("table")
    drawn = [found for _, found in page.elements if "data-chart" in found]
    assert len(drawn) == 13
    assert all(found["role"] == "img" and found["aria-label"] for found in drawn)
    identities = [found["id"] for _, found in page.elements if "id" in found]
    assert len(identities) == len(set(identities))
    told = {name for _, found in page.elements for name in (found.get("aria-labelledby") or "").split()}
    assert told <= set(identities)


def test_packed_scores_are_those_of_the_run(one: _Shown) -> None:
    (run,), page = one.runs, one.page
    for index, video in enumerate(run.scores.videos):
        text = page.scripts[f"scores-0-{index}"].strip()
        scores, labels, scored = unpack_video(
            text, frames=len(video.scores), classes=len(run.scores.class_names), multi_hot=False
        )
        assert np.abs(scores - video.scores).max() <= 0.5 / 65535 + 1e-12
        assert labels.tolist() == video.labels.tolist()
        assert scored.tolist() == video.scored.tolist()


def test_worst_video_comes_first(make_run: Callable[..., Path]) -> None:
    videos = list_videos(find_runs([make_run("a", videos=6), make_run("b", videos=6, seed=1)]))
    values = [video["accuracy"] for video in videos]
    assert values == sorted(values)
    assert values[0] < values[-1]
    assert [len(video["runs"]) for video in videos] == [2] * 6


def test_videos_of_several_runs_stand_in_one_order(make_run: Callable[..., Path]) -> None:
    runs = find_runs([make_run("a", videos=6), make_run("b", videos=6, seed=1, skill=1.0)])
    table = figures.video_table(runs)
    assert [row[0] for row in table.rows] == [video["name"] for video in list_videos(runs)]
    assert table.columns == ("video", "accuracy, a", "mAP, a", "accuracy, b", "mAP, b")
    means = [float(row[1]) + float(row[3]) for row in table.rows]
    assert means == pytest.approx(sorted(means), abs=2e-3)


def test_notes_are_a_banner_below_the_heading(noted: _Shown, one: _Shown) -> None:
    banner = noted.text.partition('<aside class="notes"')[2].partition("</aside>")[0]
    assert "These numbers do not compare" in banner
    assert "First &lt;b&gt;" in banner
    assert "Second" in banner
    assert "<h1>Title</h1>" in noted.text
    assert '<aside class="notes"' not in one.text


def test_long_names_may_break_between_words_alone(nasty: _Shown) -> None:
    assert "salads-<wbr>oadtr_<wbr>b1" in nasty.text
    assert "&lt;i&gt;-<wbr>x" in nasty.text


def test_mode_smoothing_audit_and_throughput_are_named(make_run: Callable[..., Path]) -> None:
    smoothing, audit = {"kind": "exponential", "decay": 0.8}, {"videos": 4, "cuts": 16, "largest_change": 0.0}
    plain = make_run("a", changes={"throughput": None})
    runs = find_runs([plain, make_run("b", changes={"smoothing": smoothing, "audit": audit, "mode": "chunk"})])
    rows = {row.label: row.cells for row in facts.headline(runs)}
    assert [value for value, _ in rows["Mode"]] == ["step by step", "in chunks"]
    assert [value for value, _ in rows["Smoothing"]] == ["none", "exponential, decay 0.8"]
    assert rows["Causality"] == (("not audited", ""), ("audited", "16 cuts in 4 videos\nlargest change 0"))
    assert "smoothed" not in rows["mAP (%)"][0][1]
    assert rows["mAP (%)"][1][1].endswith("\nsmoothed: exponential, decay 0.8")
    assert rows["Frames a second, 16 streams"] == (("-", ""), ("14,400", "850 to 16,000"))


def test_protocol_comes_first_and_the_delay_says_at_what_false_alarms(make_run: Callable[..., Path]) -> None:
    rows = facts.headline(find_runs([make_run(protocol="oadtr")]))
    assert rows[0].label == "Protocol"
    assert rows[0].cells[0][0] == "oadtr"
    assert rows[0].cells[0][1].startswith("version ")
    (delay,) = (row for row in rows if row.label.startswith("Median detection delay"))
    assert delay.note.endswith("; at 60 false alarms an hour and class; threshold chosen on these labels")


def test_intervals_from_few_videos_are_called_rough(one: _Shown, noted: _Shown) -> None:
    assert "by bootstrap over 10 videos; few videos: take intervals as rough.</p>" in one.text
    assert "by bootstrap over 50 videos.</p>" in noted.text


def test_several_runs_are_tested_against_the_first(two: _Shown) -> None:
    runs = two.runs
    table = figures.pair_table(runs)
    assert table is not None
    assert [row[0] for row in table.rows] == [f"{metric}, b - a" for metric in ("mAP", "mcAP", "accuracy")]
    gain = 100 * (runs[1].report["mAP"] - runs[0].report["mAP"])
    assert float(table.rows[0][1].split()[0]) == pytest.approx(gain, abs=0.051)
    section = two.text.partition('id="headline"')[2].partition("</section>")[0]
    assert table.caption in section
    assert figures.pair_table(runs[:1]) is None


def test_p_values_name_the_least_that_the_videos_allow(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = find_runs([make_run("a"), make_run("b", seed=1)])
    tests = pairs.paired(runs).assign(smallest_p=0.125)
    monkeypatch.setattr(figures, "paired", lambda _: tests)
    table = figures.pair_table(runs)
    assert table is not None
    assert all(row[2].endswith(", at least 0.12 with 4 videos") for row in table.rows)


def test_headline_shows_value_and_interval(make_run: Callable[..., Path]) -> None:
    (run,) = find_runs([make_run(changes={"mAP": 0.7039, "intervals": {
        "level": 0.95, "mAP": [0.6612, 0.7401], "mcAP": None, "accuracy": None}})])  # fmt: skip
    rows = {row.label: row.cells for row in facts.headline([run])}
    assert rows["mAP (%)"] == (("70.4", "66.1 to 74.0"),)
    assert rows["mcAP (%)"][0][1] == ""
    assert rows["MACs per frame"] == (("133,376", ""),)


def test_origin_names_data_seed_command_and_machine(make_run: Callable[..., Path]) -> None:
    (run,) = find_runs([make_run(seed=7)])
    rows = {row.label: row.cells[0][0] for row in facts.origin([run])}
    assert rows["Seed of the training"] == "7"
    assert rows["Command"] == "coadtr replay"
    assert "Abacus 3" in rows["Machine"]
    assert rows["Fingerprint of the data"] == "b5ef5aa444329fff"
    assert "torch" in rows["Versions"]


def test_pages_without_runs_or_with_one_name_twice_are_refused(make_run: Callable[..., Path]) -> None:
    (run,) = find_runs([make_run()])
    with pytest.raises(ConfigError, match="at least one run"):
        render_page([], title="None")
    with pytest.raises(ConfigError, match="not distinct"):
        render_page([run, run], title="Twice")
