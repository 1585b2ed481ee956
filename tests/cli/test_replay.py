"""Ways of replaying: in chunks, in several processes, after a kill, audited, smoothed, ahead; the answers agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from coadtr.data import ScoreJournal, VideoScores, read_scores
from tests.cli.calling import QUICK, SMALL, Outcome, call, contents, refuse, spawn, succeed
from tests.cli.conftest import write_store
from tests.forking import command, forked, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPLAY = ("replay", "checkpoint=run/checkpoint", "data=data.h5")
UNTIMED = (*REPLAY, "latency=null", "details.resamples=50")


def report_of(folder: Path, out: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / out / "report.json").read_text())
    return report


def scores_of(folder: Path, out: str) -> dict[str, np.ndarray[Any, Any]]:
    return {video.name: video.scores for video in read_scores(folder / out / "scores.h5").videos}


@pytest.fixture(scope="module")
def ahead(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a model that predicts ahead."""
    folder = tmp_path_factory.mktemp("ahead")
    words = ("model=oadtr", f"dataset.path={trained / 'data.h5'}", "trainer.max_epochs=1", "model.decoder_heads=2")
    succeed("train", *SMALL, *words, "trainer.batch_size=32", "out=run", folder=folder)
    return folder / "run/checkpoint"


@pytest.fixture
def brief(workplace: Path) -> Path:
    """Return a folder whose store has a third of the frames."""
    write_store(workplace / "data.h5", run=3)
    return workplace


def undated(folder: Path, out: str) -> str:
    report = report_of(folder, out)
    del report["origin"]["date"], report["origin"]["command"]
    return json.dumps(report)


def test_without_latency_videos_go_through_in_chunks_and_score_the_same(workplace: Path) -> None:
    succeed(*REPLAY, *QUICK, "out=steps", folder=workplace)
    succeed(*UNTIMED, "out=chunks", folder=workplace)
    succeed(*UNTIMED, "out=untimed_steps", "mode=step", folder=workplace)
    steps, chunks = report_of(workplace, "steps"), report_of(workplace, "chunks")
    assert (steps["mode"], chunks["mode"], report_of(workplace, "untimed_steps")["mode"]) == ("step", "chunk", "step")
    assert steps["step_latency_ms"]["steps"] == 5
    assert chunks["step_latency_ms"] is None
    assert chunks["peak_memory_bytes"] is None
    assert chunks["macs_per_frame"] == steps["macs_per_frame"]
    for name, found in scores_of(workplace, "chunks").items():
        np.testing.assert_allclose(found, scores_of(workplace, "steps")[name], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(scores_of(workplace, "untimed_steps")[name], scores_of(workplace, "steps")[name])
    assert chunks["mAP"] == pytest.approx(steps["mAP"], abs=1e-3)


def by_torchrun(*words: str, folder: Path) -> list[Outcome]:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", "-m", "coadtr.cli.main")
    return [spawn(*torchrun, *words, folder=folder)]


def by_ourselves(*words: str, folder: Path) -> list[Outcome]:
    return side_by_side(command, 4, *words, folder=folder)


@pytest.mark.parametrize("in_four", [by_ourselves, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_one_and_four_processes_report_the_same_byte_for_byte(
    workplace: Path, in_four: Callable[..., list[Outcome]]
) -> None:
    words = (*UNTIMED, "mode=step", "batch_size=2", "split=null", "threads=1")
    with forked(command, *words, "out=one", folder=workplace) as process:
        assert process.wait().code == 0
    four = in_four(*words, "out=four", folder=workplace)
    said = "".join(process.err for process in four)
    assert not any(process.code for process in four), said
    assert "1 of 4 processes have nothing to do: use a batch_size below 2" in said
    assert "".join(process.out for process in four).count("Replay") == 1, "the lead process alone prints"
    assert (workplace / "one/scores.h5").read_bytes() == (workplace / "four/scores.h5").read_bytes()
    assert undated(workplace, "one") == undated(workplace, "four")
    assert {path.name for path in (workplace / "four").iterdir()} == {"report.json", "scores.h5"}


@pytest.mark.slow
def test_what_fails_in_one_process_ends_all(workplace: Path) -> None:
    (workplace / "taken").write_text("")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "coadtr.cli.main")
    failed = spawn(*torchrun, *UNTIMED, "out=taken/below", folder=workplace)
    assert failed.code != 0
    assert "coadtr: error: " in failed.err
    assert "cannot be made" in failed.err


def test_a_killed_replay_goes_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*UNTIMED, "split=null", "batch_size=2")
    succeed(*words, "out=whole", folder=workplace)
    add = ScoreJournal.add
    answered: list[str] = []

    def interrupted(journal: ScoreJournal, video: VideoScores) -> None:
        if len(answered) == 3:  # in the middle of the second group, which is answered again
            raise KeyboardInterrupt
        answered.append(video.name)
        add(journal, video)

    with monkeypatch.context() as patch:
        patch.setattr(ScoreJournal, "add", interrupted)
        outcome = call(*words, "out=killed", folder=workplace)
    assert (outcome.code, outcome.err) == (130, "coadtr: interrupted; run the same command again to go on\n")
    assert set(contents(workplace / "killed")) >= {".scores.h5.parts"}
    again = call(*words, "out=killed", folder=workplace)
    assert (again.code, again.err) == (0, "going on: 2 of 6 videos were answered before\n")
    assert (workplace / "killed/scores.h5").read_bytes() == (workplace / "whole/scores.h5").read_bytes()
    assert undated(workplace, "killed") == undated(workplace, "whole")
    assert {path.name for path in (workplace / "killed").iterdir()} == {"report.json", "scores.h5"}


def test_an_audit_is_in_the_report(workplace: Path) -> None:
    shown = succeed(*UNTIMED, "audit=true", "out=audited", folder=workplace)
    audit = report_of(workplace, "audited")["audit"]
    assert audit["largest_change"] == 0.0
    assert audit["cuts"] == audit["videos"] * (31 + 4)
    assert audit["largest_difference_from_steps"] < 1e-5
    assert "no earlier score moved when the future was replaced" in shown


def test_a_detector_that_looks_ahead_is_not_reported(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coadtr.models import CoOadTR  # noqa: PLC0415 - patched below

    steps = CoOadTR.steps

    def peeking(model: CoOadTR, frames: Any, state: Any) -> Any:
        answers, state = steps(model, frames, state)
        return answers + 1e-6 * answers[:, -1:], state

    monkeypatch.setattr(CoOadTR, "steps", peeking)
    refuse(*UNTIMED, "audit=true", "out=new", folder=workplace, code=1, names=("the detector looks ahead",))


def test_what_a_detector_settles_on_at_its_first_call_is_found(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coadtr.models import CoOadTR  # noqa: PLC0415 - patched below

    steps = CoOadTR.steps

    def settling(model: CoOadTR, frames: Any, state: Any) -> Any:
        if not hasattr(model, "settled"):
            model.settled = frames.mean(dim=1, keepdim=True)
        return steps(model, frames - model.settled, state)

    monkeypatch.setattr(CoOadTR, "steps", settling)
    refuse(*UNTIMED, "audit=true", "out=new", folder=workplace, code=1, names=("the detector looks ahead",))


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_an_audit_in_few_bytes(brief: Path, precision: str) -> None:
    succeed(*UNTIMED, "audit=true", f"precision={precision}", "out=low", folder=brief)
    report = report_of(brief, "low")
    assert (report["mode"], report["audit"]["largest_change"]) == ("step", 0.0)


def test_what_is_ahead_is_audited_too(brief: Path, ahead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coadtr.models import OadTR  # noqa: PLC0415 - patched below

    step_ahead = OadTR.step_ahead

    def guessing(model: OadTR, frame: Any, state: Any) -> Any:
        now, ahead, state = step_ahead(model, frame, state)
        return now, torch.randn_like(ahead), state

    monkeypatch.setattr(OadTR, "step_ahead", guessing)
    replay = ("replay", f"checkpoint={ahead}", "data=data.h5", "latency=null", "anticipation=true")
    refuse(*replay, "audit=true", "out=new", folder=brief, code=1, names=("the score of frame",))


def test_answers_of_other_settings_are_dropped_and_that_is_said(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("coadtr.cli.replay.write_report", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert call(*UNTIMED, "out=other", folder=workplace).code == 130
    again = call(*UNTIMED, "mode=step", "out=other", folder=workplace)
    assert again.code == 0
    assert again.err == "3 videos that were answered with other settings or data are dropped\n"


def test_a_protocol_that_scores_nothing_is_refused_before_the_replay(workplace: Path) -> None:
    names = ("protocol 'oadtr' scores none of", "use protocol 'all'")
    words = ("train", *SMALL, "model.window=200", "dataset.path=data.h5", "out=long", "trainer.max_epochs=1")
    succeed(*words, folder=workplace)
    replay = ("replay", "checkpoint=long/checkpoint", "data=data.h5", "protocol=oadtr", "out=new")
    refuse(*replay, folder=workplace, code=1, names=names)


def test_smoothing_is_named_and_done_to_the_scores(workplace: Path) -> None:
    succeed(*UNTIMED, "out=raw", folder=workplace)
    words = ("smoothing.kind=mean", "smoothing.frames=3", "out=smooth")
    assert "kind mean, frames 3" in succeed(*UNTIMED, *words, folder=workplace)
    assert report_of(workplace, "raw")["smoothing"] is None
    assert report_of(workplace, "smooth")["smoothing"] == {"kind": "mean", "frames": 3}
    raw, smooth = scores_of(workplace, "raw"), scores_of(workplace, "smooth")
    for name, found in smooth.items():
        expected = [raw[name][max(0, frame - 2) : frame + 1].mean(axis=0) for frame in range(len(found))]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_model_that_predicts_ahead_is_scored_for_it(workplace: Path, ahead: Path) -> None:
    replay = ("replay", f"checkpoint={ahead}", "data=data.h5", "latency=null", "out=ahead")
    assert "anticipation" in succeed(*replay, "anticipation=true", folder=workplace)
    report = report_of(workplace, "ahead")
    assert report["mode"] == "step"
    assert report["anticipation"]["horizons_s"] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]  # 8 frames ahead at 5 Hz
    assert all(0 < value <= 1 for value in report["anticipation"]["mAP"])
    (first, *_) = read_scores(workplace / "ahead/scores.h5").videos
    assert first.ahead is not None
    assert first.ahead.shape == (len(first.labels), 8, 3)
    np.testing.assert_allclose(first.ahead.sum(axis=-1), 1.0)
    refuse(*UNTIMED, "anticipation=true", "out=new", folder=workplace, code=2, names=("does not predict ahead",))


def test_throughput_is_measured_where_it_is_asked_for(workplace: Path) -> None:
    shown = succeed(*REPLAY, *QUICK, "latency.streams=[1,4]", "out=carried", folder=workplace)
    assert [found["streams"] for found in report_of(workplace, "carried")["throughput"]] == [1, 4]
    assert "4 streams" in shown


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("mode=fast",), ("mode must be one of auto, step, chunk", "'fast'")),
        (("mode=chunk", "backend=compiled"), ("mode=chunk cannot run with backend=compiled",)),
        (("mode=chunk", "anticipation=true"), ("use mode=step with anticipation=true",)),
        (("backend=compiled", "anticipation=true"), ("backend=compiled answers the current frame alone",)),
        (("out=run/checkpoint",), ("run/checkpoint is the checkpoint",)),
        (("latency.steps=0",), ("latency.steps must be a whole number of at least 1",)),
        (("smoothing.kind=median",), ("'median'", "mean, exponential")),
        (("smoothing.kind=mean", "smoothing.frames=0"), ("smoothing.frames=0",)),
        (("details.level=2",), ("level=2",)),
        (("details.resamples=-1",), ("resamples=-1",)),
        (("audit=maybe",), ("audit must be true or false",)),
        (("latency={warmup: 0, steps: 1, streams: [0]}",), ("latency.streams must be a list", "[0]")),
    ],
)
def test_ways_that_cannot_be_are_refused(workplace: Path, words: tuple[str, ...], names: tuple[str, ...]) -> None:
    refuse(*REPLAY, "out=new", *words, folder=workplace, code=2, names=names)


def test_a_report_of_other_frames_or_scores_is_not_replaced_unasked(workplace: Path) -> None:
    succeed(*UNTIMED, "out=kept", folder=workplace)
    for words, told in (
        (("protocol=oadtr",), "is the report of protocol all, split test"),
        (("split=validation",), "split test"),
        (("smoothing.kind=mean", "smoothing.frames=2"), "smoothing None"),
    ):
        refuse(*UNTIMED, *words, "out=kept", folder=workplace, code=2, names=(told, "overwrite=true"))
    succeed(*UNTIMED, "protocol=oadtr", "overwrite=true", "out=kept", folder=workplace)
    assert report_of(workplace, "kept")["protocol"]["name"] == "oadtr"


def test_a_log_says_from_time_to_time_how_far_it_is(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coadtr.cli.replaying._SILENCE", 0.0)
    outcome = call(*UNTIMED, "out=told", folder=workplace)
    assert (outcome.code, outcome.err) == (0, "".join(f"answered {done} of 3 videos\n" for done in (1, 2, 3)))
