"""Every command does its job, and its outputs say what the rest of the package says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import coadtr
from coadtr.cli.replay import results_beside
from coadtr.data import FeatureStore, ScoreFile, read_scores
from coadtr.evaluation import mean_average_precision, per_frame_average_precision, published_macs
from coadtr.models import preset
from tests.cli.calling import QUICK, SMALL, contents, refuse, succeed
from tests.cli.conftest import write_store

REPLAY = ("replay", "checkpoint=run/checkpoint", "data=data.h5", *QUICK)


def rows_of(out: str) -> list[list[str]]:
    """Split a printed table into cells."""
    return [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in out.splitlines() if "│" in line]


def report_of(folder: Path, out: str = "run/replay") -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / out / "report.json").read_text())
    return report


def score_again(scores: ScoreFile, background: int) -> float:
    """Compute mAP out of a score file alone."""
    labels = np.concatenate([video.labels[video.scored] for video in scores.videos])
    answers = np.concatenate([video.scores[video.scored] for video in scores.videos])
    names = list(scores.class_names)
    return mean_average_precision(
        per_frame_average_precision(labels, answers, class_names=names, background=background)
    )


def test_exercises_are_imported_and_inspected(tmp_path: Path) -> None:
    pytest.importorskip("seglearn", reason="needs the data set that the extra `demo` brings")
    imported = succeed("data", "import", "format=exercises", "out=data/exercises.h5", folder=tmp_path)
    assert set(contents(tmp_path)) == {"data", "data/exercises.h5"}
    inspected = succeed("data", "inspect", "path=data/exercises.h5", folder=tmp_path)
    assert inspected == imported
    assert "streams: imu 60" in inspected
    assert ["videos", "5", "1", "4", "10"] in rows_of(inspected)
    assert ["frames", "11,439", "2,488", "10,424", "24,351"] in rows_of(inspected)
    refuse("data", "import", "format=exercises", "out=data/exercises.h5", folder=tmp_path, code=2, names=("exists",))
    succeed(
        *("data", "import", "format=exercises", "out=data/exercises.h5", "overwrite=true", "options.seed=1"),
        folder=tmp_path,
    )
    assert FeatureStore(tmp_path / "data/exercises.h5").attributes["seed"] == 1


def test_training_writes_a_run_and_says_how_to_replay_it(workplace: Path) -> None:
    call = ("train", *SMALL, "dataset.path=data.h5", "out=2024", "trainer.max_epochs=1", "features.streams=gyro")
    out = succeed(*call, folder=workplace)
    lines = out.splitlines()
    assert lines[0].startswith("training cooadtr of depth 1")
    assert lines[1].startswith("epoch 0 of 0..0: train_loss")
    assert "the checkpoint" in next(line for line in lines if line.startswith("│     0 "))
    assert re.match(r"validation mAP 0\.\d{4} in epoch 0$", lines[-3])
    assert {path.name for path in (workplace / "2024").iterdir()} == {"checkpoint", "lightning", "logs", "run.json"}
    checkpoint = coadtr.load(workplace / "2024/checkpoint")
    assert checkpoint.spec.streams == {"gyro": 2}
    assert checkpoint.origin["command"] == f"coadtr {' '.join(call)}"
    # The line that it prints is the command that replays it; a store with more streams than the model takes will do.
    hint = out.split("replay it with coadtr ")[1].split()
    assert hint == ["replay", "checkpoint=2024/checkpoint", "data=data.h5"]
    succeed(*hint, *QUICK, folder=workplace)
    assert report_of(workplace, "2024/replay")["origin"]["checkpoint"] == "2024/checkpoint"


def test_seed_and_name_reach_the_run(trained: Path, tmp_path: Path) -> None:
    assert json.loads((trained / "run/run.json").read_text())["training"]["seed"] == 3
    succeed(
        *("train", *SMALL, f"dataset.path={trained / 'data.h5'}", "name=mine", "trainer.max_epochs=1"), folder=tmp_path
    )
    assert (tmp_path / "runs/mine/checkpoint").is_dir()


def test_a_sweep_trains_one_run_a_choice(trained: Path, tmp_path: Path) -> None:
    data = f"dataset.path={trained / 'data.h5'}"
    out = succeed(
        *("train", "--multirun", *SMALL, data, "trainer.max_epochs=1", "seed=0,1", "out=runs/${seed}"), folder=tmp_path
    )
    assert out.count("\nvalidation mAP 0.") == 2
    heads = [coadtr.load(tmp_path / f"runs/{seed}/checkpoint").model.state_dict()["head.weight"] for seed in (0, 1)]
    assert not torch.equal(heads[0], heads[1])
    assert {path.parts[0] for path in map(Path, contents(tmp_path))} == {"runs"}
    assert len(list((tmp_path / "runs").glob("*/results.csv"))) == 1, "out= moves the runs, and not the table"


def test_the_last_epoch_is_exported(workplace: Path) -> None:
    out = succeed("export", "run=run", "which=last", "out=last", folder=workplace)
    assert re.fullmatch(r"exported epoch 1 \(validation mAP 0\.\d{4}\) to last\n", out)
    last = coadtr.load(workplace / "last")
    assert last.origin["metric"]["epoch"] == 1
    assert last.origin["command"] == "coadtr export run=run which=last out=last"
    refuse("export", "run=run", folder=workplace, code=1, names=("run/checkpoint", "there already"))
    succeed("export", "run=run", "which=last", "overwrite=true", folder=workplace)
    again = coadtr.load(workplace / "run/checkpoint").model.state_dict()
    for name, tensor in last.model.state_dict().items():
        assert torch.equal(tensor, again[name]), name


def test_replay_reports_all_that_is_documented(workplace: Path) -> None:
    out = succeed(*REPLAY, "threads=1", folder=workplace)
    report, checkpoint = report_of(workplace), coadtr.load(workplace / "run/checkpoint")
    assert set(contents(workplace / "run/replay")) == {"report.json", "scores.h5"}
    documented = (Path(__file__).parents[2] / "docs/evaluation.md").read_text()
    for key in report:
        assert f"`{key}`" in documented, key
    assert {
        *("mAP", "mcAP", "per_class_AP", "frames_total", "frames_scored", "macs_per_frame", "parameters"),
        *("step_latency_ms", "state_bytes_per_stream", "origin"),
    } <= set(report)
    assert set(report["per_class_AP"]) == {"lift", "turn"}
    assert report["frames_total"] == report["frames_scored"] == 110 + 80 + 90
    assert report["parameters"] == sum(parameter.numel() for parameter in checkpoint.model.parameters())
    assert report["macs_per_frame_published"] == published_macs(checkpoint.spec.model)
    assert 0 < report["step_latency_ms"]["p50"] <= report["step_latency_ms"]["p99"]
    assert report["step_latency_ms"]["steps"] == 5
    origin = report["origin"]
    assert origin["checkpoint"] == "run/checkpoint"
    assert origin["data"] == {"path": "data.h5", "fingerprint": FeatureStore(workplace / "data.h5").fingerprint()}
    assert (origin["split"], origin["seed"]) == ("test", 3)
    assert origin["command"] == f"coadtr {' '.join([*REPLAY, 'threads=1'])}"
    assert set(origin["versions"]) >= {"coadtr", "torch", "python"}
    assert f"{100 * report['mAP']:.2f} %" in out


def test_stored_scores_give_the_reported_map(workplace: Path) -> None:
    succeed(*REPLAY, folder=workplace)
    scores, store = read_scores(workplace / "run/replay/scores.h5"), FeatureStore(workplace / "data.h5")
    assert [video.name for video in scores.videos] == [record.name for record in store.videos("test")]
    assert scores.class_names == store.class_names
    for video in scores.videos:
        np.testing.assert_array_equal(video.labels, store.labels(video.name))
        np.testing.assert_allclose(video.scores.sum(axis=1), 1, atol=1e-6)
        assert video.scored.all()
    assert score_again(scores, background=0) == pytest.approx(report_of(workplace)["mAP"], abs=1e-9)


def test_the_published_protocol_leaves_out_warm_up_and_tail(workplace: Path) -> None:
    succeed(*REPLAY, "protocol=oadtr", "out=published", folder=workplace)
    report, scores = report_of(workplace, "published"), read_scores(workplace / "published/scores.h5")
    assert report["protocol"]["name"] == "oadtr"
    assert report["frames_total"] - report["frames_scored"] == len(scores.videos) * (7 + 9)
    for video in scores.videos:
        assert np.flatnonzero(video.scored).tolist() == list(range(7, len(video.labels) - 9))
    assert score_again(scores, background=0) == pytest.approx(report["mAP"], abs=1e-9)


def test_the_scores_do_not_depend_on_the_batch(workplace: Path) -> None:
    for size in (1, 4):
        succeed(*REPLAY, f"batch_size={size}", f"out=batch{size}", folder=workplace)
    one, four = (read_scores(workplace / f"batch{size}/scores.h5") for size in (1, 4))
    for a, b in zip(one.videos, four.videos, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
    assert report_of(workplace, "batch1")["mAP"] == pytest.approx(report_of(workplace, "batch4")["mAP"], abs=1e-9)


def test_other_splits_and_whole_stores_are_replayed(workplace: Path) -> None:
    succeed(*REPLAY, "split=validation", "out=validation", folder=workplace)
    succeed(*REPLAY, "split=null", "out=all", folder=workplace)
    report = report_of(workplace, "validation")
    assert (report["videos"], report_of(workplace, "all")["videos"]) == (1, 6)
    # What training found for the exported epoch is what replay finds on the same videos.
    metric = coadtr.load(workplace / "run/checkpoint").origin["metric"]
    assert report["mAP"] == pytest.approx(metric["value"], abs=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_replay_in_fewer_bytes_says_so_and_finds_nearly_the_same(workplace: Path, precision: str) -> None:
    succeed(*REPLAY, "out=full", folder=workplace)
    printed = succeed(*REPLAY, f"precision={precision}", "backend=auto", "out=lower", folder=workplace)
    full, lower = report_of(workplace, "full"), report_of(workplace, "lower")
    assert f"{precision}, eager" in " ".join(printed.split())
    assert (lower["machine"]["precision"], lower["machine"]["dtype"]) == (precision, "bfloat16")
    assert lower["machine"]["backend"] == "eager"
    assert lower["state_bytes_per_stream"] < full["state_bytes_per_stream"]
    assert (lower["macs_per_frame"], lower["parameters"]) == (full["macs_per_frame"], full["parameters"])
    scores = [read_scores(workplace / name / "scores.h5") for name in ("full", "lower")]
    for a, b in zip(scores[0].videos, scores[1].videos, strict=True):
        assert 0 < np.abs(a.scores - b.scores).max() < 0.05


@pytest.mark.slow
def test_a_compiled_replay_finds_the_same(workplace: Path) -> None:
    succeed(*REPLAY, "out=eager", folder=workplace)
    succeed(*REPLAY, "backend=compiled", "out=compiled", folder=workplace)
    assert report_of(workplace, "compiled")["machine"]["backend"] == "compiled"
    assert report_of(workplace, "compiled")["mAP"] == pytest.approx(report_of(workplace, "eager")["mAP"], abs=1e-6)


def test_a_replay_may_be_repeated(workplace: Path) -> None:
    first = succeed(*REPLAY, folder=workplace)
    again = succeed(*REPLAY, folder=workplace)
    assert first.count("\n") == again.count("\n")


def test_clip_models_train_and_replay_too(workplace: Path) -> None:
    small = (*SMALL, "model.decoder_depth=1", "model.decoder_queries=2", "model.decoder_heads=2", "model.depth=1")
    succeed(
        *("train", "model=oadtr", "trainer=published", *small, "trainer.max_epochs=1", "dataset.path=data.h5"),
        *("out=clip",),
        folder=workplace,
    )
    succeed("replay", "checkpoint=clip/checkpoint", "data=data.h5", *QUICK, folder=workplace)
    assert report_of(workplace, "clip/replay")["frames_scored"] > 0


def test_the_published_table_has_the_published_digits(shared_reference: Path, tmp_path: Path) -> None:
    printed = {row[0]: row[1:] for row in rows_of(succeed("cost", "table=true", folder=tmp_path))}
    lines = (shared_reference / "README.md").read_text().splitlines()
    wanted = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) == 5 and re.match(r"(Co)?OadTR", cells[0]):
            name = cells[0].removesuffix(", step").lower().replace("-", "_")
            parameters = cells[1].split(" / ")
            wanted[name] = [parameters[0], cells[2], parameters[1], cells[3]]
    assert len(wanted) == 5
    for name, cells in wanted.items():
        assert printed[name] == cells, name


@pytest.mark.parametrize("name", ["grab", "miniroad", "nystroem"])
def test_cost_of_models_without_a_depth_and_others(tmp_path: Path, name: str) -> None:
    out = succeed("cost", f"model={name}", "features=exercises", "model.embed_dim=16", folder=tmp_path)
    assert out.startswith(name)
    assert "multiply-accumulates" in out


def test_a_checkpoint_outside_of_a_run_has_results_of_its_own_name(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "x"
    for folder in (run / "checkpoint", tmp_path / "kept" / "small"):
        folder.mkdir(parents=True)
    (run / "run.json").touch()
    assert results_beside(run / "checkpoint") == run / "replay"
    assert results_beside(tmp_path / "kept/small") == tmp_path / "kept" / "small-replay"


def test_cost_of_one_model(tmp_path: Path) -> None:
    out = succeed("cost", "model=cooadtr_b1", "features=kinetics", folder=tmp_path)
    assert "cooadtr, depth 1, 4096 channels, 22 classes" in out
    rows = dict(rows_of(out))
    assert rows["multiply-accumulates, by the published convention"] == "10.65 M"
    assert round(published_macs(preset("cooadtr_b1", input_dim=4096, num_classes=22)) / 1e6, 2) == 10.65
    assert rows["parameters"] == "10.52 M"
    small = succeed("cost", *SMALL[:-1], "features=exercises", "model.depth=3", "latency=true", folder=tmp_path)
    assert "no published way to count" in small
    assert "p50" in small
    assert contents(tmp_path) == {}


def test_a_store_of_other_streams_can_be_trained_on(tmp_path: Path) -> None:
    write_store(tmp_path / "one.h5", streams={"rgb": 5})
    succeed("train", *SMALL, "dataset.path=one.h5", "out=run", "trainer.max_epochs=1", folder=tmp_path)
    assert coadtr.load(tmp_path / "run/checkpoint").spec.streams == {"rgb": 5}
