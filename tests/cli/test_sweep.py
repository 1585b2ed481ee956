"""Sweeps: a folder for each job, a table of all, finished runs kept, failed ones named, other launchers and Optuna."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import coadtr
from coadtr.cli import train
from coadtr.cli.messages import PLUGINS
from coadtr.cli.sweep import folder_name
from coadtr.cli.sweep_table import job_table, mean_table
from tests.cli.calling import SMALL, Outcome, call, contents, refuse, spawn, succeed

MODULE = ("-m", "coadtr.cli.main")


@pytest.fixture
def sweep(trained: Path) -> tuple[str, ...]:
    """Return a sweep over models that take a second, whose folder is ``runs/small``."""
    return ("train", "-m", *SMALL, f"dataset.path={trained / 'data.h5'}", "trainer.max_epochs=1", "name=small")


def table(folder: Path) -> pd.DataFrame:
    """Read the results of a sweep."""
    return pd.read_csv(folder / "results.csv")


def times(folder: Path) -> dict[str, Any]:
    """Return when the weights of each job were written."""
    return {path.parts[-3]: path.stat().st_mtime_ns for path in folder.glob("*/checkpoint/model.safetensors")}


def test_each_job_has_its_folder_and_its_row(sweep: tuple[str, ...], tmp_path: Path) -> None:
    out = succeed(*sweep, "model.dropout=0.1,0.2", "seed=0,1", folder=tmp_path)
    found = table(tmp_path / "runs/small")
    assert list(found.columns[:2]) == ["model.dropout", "seed"]
    assert list(zip(found["model.dropout"], found["seed"], strict=True)) == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    assert set(found["state"]) == {"finished"}
    for row in found.to_dict("records"):
        assert row["checkpoint"] == f"runs/small/model.dropout-{row['model.dropout']}+seed-{row['seed']}/checkpoint"
        origin = coadtr.load(tmp_path / row["checkpoint"]).origin
        assert (origin["metric"]["value"], origin["metric"]["epoch"]) == (row["validation_mAP"], row["epoch"])
        assert f"seed={row['seed']} " in origin["command"], "and not that of the whole sweep"
        assert "-m" not in origin["command"].split()
        assert row["seconds"] > 0
    means = pd.read_csv(tmp_path / "runs/small/means.csv").to_dict("records")
    scores = list(found["validation_mAP"])
    for row, (first, second) in zip(means, (scores[:2], scores[2:]), strict=True):
        assert row["runs"] == 2
        assert row["mean"] == pytest.approx((first + second) / 2)
        assert row["deviation"] == pytest.approx(abs(first - second) / 2**0.5)
    both = json.loads((tmp_path / "runs/small/results.json").read_text())
    assert [len(both["jobs"]), len(both["means"])] == [4, 2]
    assert f"{found['validation_mAP'][0]:.4f}" in out
    best = max(means, key=lambda row: row["mean"])
    assert f"best           model.dropout={best['model.dropout']}: validation mAP {best['mean']:.4f}" in out
    assert {Path(name).parts[0] for name in contents(tmp_path)} == {"runs"}


@pytest.mark.slow
def test_finished_runs_are_kept_and_a_sweep_may_grow(sweep: tuple[str, ...], tmp_path: Path) -> None:
    succeed(*sweep, "seed=0,1", folder=tmp_path)
    before, first = times(tmp_path / "runs/small"), table(tmp_path / "runs/small")
    succeed(*sweep, "seed=0,1,2", folder=tmp_path)
    after, second = times(tmp_path / "runs/small"), table(tmp_path / "runs/small")
    assert {name: after[name] for name in before} == before
    assert set(after) == {"seed-0", "seed-1", "seed-2"}
    pd.testing.assert_frame_equal(first, second.iloc[:2])


def test_a_finished_run_of_other_settings_is_not_taken(sweep: tuple[str, ...], tmp_path: Path) -> None:
    succeed(*sweep, "seed=0", folder=tmp_path)
    before = times(tmp_path / "runs/small")
    outcome = call(*sweep, "seed=0", "trainer.weight_decay=0", folder=tmp_path)
    assert outcome.code == 1
    assert "has finished" in outcome.err
    assert "choose another out" in outcome.err
    assert times(tmp_path / "runs/small") == before


def test_a_failed_job_is_named_and_the_others_go_on(sweep: tuple[str, ...], tmp_path: Path) -> None:
    outcome = call(*sweep, "model.dropout=7,0.1", folder=tmp_path)
    assert outcome.code == 1
    lines = outcome.err.splitlines()
    assert lines[0] == "coadtr: model.dropout=7 failed: model.dropout must be at least 0 and below 1, got 7"
    assert lines[1:] == [
        "coadtr: error: 1 of 2 jobs failed: run the same command again to try them again; those that finished are kept"
    ]
    found = table(tmp_path / "runs/small")
    assert list(found["state"]) == ["failed", "finished"]
    assert "got 7" in found["error"][0]
    record = json.loads((tmp_path / "runs/small/jobs/model.dropout-7.json").read_text())
    assert record["traceback"].startswith("Traceback")


def test_a_fault_of_ours_is_named_in_one_line_too(
    sweep: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("not\nforeseen")

    monkeypatch.setattr(train, "plain", break_down)
    outcome = call(*sweep, "seed=0,1", folder=tmp_path)
    assert outcome.code == 1
    assert "coadtr: seed=1 failed: RuntimeError: not foreseen\n" in outcome.err


@pytest.mark.slow
def test_an_interrupted_sweep_is_taken_up_again(
    sweep: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train.run

    def interrupt(cfg: Any, **how: Any) -> Any:
        if cfg.seed == 1:
            raise KeyboardInterrupt
        return real(cfg, **how)

    with monkeypatch.context() as patched:
        patched.setattr(train, "run", interrupt)
        outcome = call(*sweep, "seed=0,1,2", folder=tmp_path)
    assert (outcome.code, outcome.err) == (130, "coadtr: interrupted; run the same command again to go on\n")
    assert list(table(tmp_path / "runs/small")["state"]) == ["finished", "interrupted"]
    before = times(tmp_path / "runs/small")
    succeed(*sweep, "seed=0,1,2", folder=tmp_path)
    assert list(table(tmp_path / "runs/small")["state"]) == ["finished"] * 3
    assert times(tmp_path / "runs/small")["seed-0"] == before["seed-0"]


@pytest.mark.slow
def test_the_folder_follows_from_the_command(trained: Path, tmp_path: Path) -> None:
    data = f"dataset.path={trained / 'data.h5'}"
    for words, folder in (
        (("model.window=0", "seed=1,0"), "runs/seed+"),
        (("seed=0,1", "model.window=0"), "runs/seed+"),
        (("model.window=0", "hydra.sweep.dir=here"), "here"),
        (("model.window=0", "name=mine"), "runs/mine"),
    ):
        outcome = call("train", "-m", data, *words, folder=tmp_path)
        assert outcome.code > 0
        made = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("results.csv")}
        assert any(name.startswith(folder) for name in made)
    assert len(list(tmp_path.rglob("results.csv"))) == 3, "the order of the words does not matter"


def test_the_settings_of_a_sweep_are_those_of_its_first_job(tmp_path: Path) -> None:
    out = succeed("train", "-m", "--cfg", "job", "seed=3,1", "model.dropout=0.1", folder=tmp_path)
    assert "\nseed: 3\n" in out
    assert contents(tmp_path) == {}


def test_names_of_folders_tell_settings_apart() -> None:
    names = [
        folder_name(given)
        for given in ({}, {"a": "x y"}, {"a": "x-y"}, {"a": "x" * 200}, {"a": "x" * 201}, {"a": "1e-4", "b": "[1,2]"})
    ]
    assert names[0] == ""
    assert len(set(names)) == len(names)
    assert all(len(name) <= 160 for name in names)
    assert not set("".join(names)) & set("/,= []")


def test_jobs_of_one_seed_have_no_means() -> None:
    records = [{"overrides": {"a": str(n)}, "state": "running"} for n in range(2)]
    assert list(job_table(records)["state"]) == ["interrupted"] * 2
    assert mean_table(job_table(records)).empty


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("hydra/launcher=nope seed=0,1", ("hydra/launcher=nope",)),
        ("hydra/sweeper=nope seed=0,1", ("hydra/sweeper=nope", "optuna")),
        ("seed=0,1 model.windw=3", ("model.windw is not a setting",)),
        ("seed=0,(", ("'seed=0,(' cannot be read",)),
        ("seed=0,1 hydra.sweep.dir=${name}", ("hydra.sweep.dir=${name} must be a path",)),
    ],
)
def test_a_wrong_sweep_ends_with_one_line(words: str, names: tuple[str, ...], tmp_path: Path) -> None:
    outcome = call("train", "-m", *words.split(), folder=tmp_path)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert all(name in outcome.err for name in names)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_launcher_that_is_not_installed_names_the_extra(
    plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra.core.config_store import ConfigStore  # noqa: PLC0415

    name, _, choice = plugin.rpartition("/")
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], f"{choice}.yaml", raising=False)
    refuse(
        *("train", "-m", "seed=0,1", f"{name}={choice}"),
        folder=tmp_path,
        code=1,
        names=(f'{name}={choice} is not installed: pip install "coadtr[sweep]"',),
    )


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((), "no setting to search"),
        (("seed=0,1", "hydra.sweeper.n_trials=0"), "n_trials=0"),
        (("seed=0,1", "hydra.sweeper.direction=minimize"), "hydra.sweeper.direction is not a setting"),
    ],
)
def test_a_wrong_search_ends_with_one_line(words: tuple[str, ...], name: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    outcome = call("train", "-m", "hydra/sweeper=optuna", *words, folder=tmp_path)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert name in outcome.err


def test_optuna_searches_and_takes_up_its_search_again(sweep: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search = (
        *sweep,
        "hydra/sweeper=optuna",
        "trainer.learning_rate=tag(log, interval(1e-4, 1e-2))",
        "model.dropout=0,7",
    )
    first = call(*search, "hydra.sweeper.n_trials=2", folder=tmp_path)
    before, found = times(tmp_path / "runs/small"), table(tmp_path / "runs/small")
    assert first.code == int((found["state"] == "failed").any())
    assert len(found) == 2
    assert found["trainer.learning_rate"].between(1e-4, 1e-2).all()
    assert found["trainer.learning_rate"].nunique() == 2
    call(*search, "hydra.sweeper.n_trials=4", folder=tmp_path)
    again = table(tmp_path / "runs/small")
    assert len(again) == 4
    assert list(again["trainer.learning_rate"][:2]) == list(found["trainer.learning_rate"])
    assert {name: times(tmp_path / "runs/small")[name] for name in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ("hydra_plugins.hydra_joblib_launcher", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra_plugins.hydra_submitit_launcher", "hydra/launcher=submitit_local"),
    ],
    ids=("joblib", "submitit"),
)
def test_jobs_in_other_processes_fill_the_same_table(
    launcher: tuple[str, ...], sweep: tuple[str, ...], tmp_path: Path
) -> None:
    plugin, *words = launcher
    pytest.importorskip(plugin)
    outcome: Outcome = spawn(*MODULE, *sweep, *words, "model.dropout=0.1,7", folder=tmp_path)
    assert outcome.code == 1
    assert [line.partition(":")[2] for line in outcome.err.splitlines()] == [
        " model.dropout=7 failed: model.dropout must be at least 0 and below 1, got 7",
        " error: 1 of 2 jobs failed: run the same command again to try them again; those that finished are kept",
    ]
    found = table(tmp_path / "runs/small")
    assert list(found["state"]) == ["finished", "failed"]
    assert found["validation_mAP"].notna().tolist() == [True, False]
