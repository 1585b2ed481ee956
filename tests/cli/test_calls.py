"""How the command line is called: usage, help, and wrong calls, each with one line that names what was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import coadtr
from coadtr.cli.main import COMMANDS, config_folder, module_of
from tests.cli.calling import call, contents, refuse, succeed

CHOICES = ", ".join(sorted(path.stem for path in (config_folder() / "model").glob("*.yaml")))


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",), ("help",), ("--debug",)])
def test_usage_lists_every_command(words: tuple[str, ...], tmp_path: Path) -> None:
    out = succeed(*words, folder=tmp_path)
    assert out.startswith("usage: coadtr COMMAND")
    for command, what in COMMANDS.items():
        assert f"{command} " in out
        assert what in out


def test_version_is_printed(tmp_path: Path) -> None:
    assert succeed("--version", folder=tmp_path) == f"coadtr {coadtr.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_settings_and_an_example(command: str, tmp_path: Path) -> None:
    out = succeed(*command.split(), "--help", folder=tmp_path)
    assert out.startswith(f"coadtr {command}: ")
    assert f"Example:  coadtr {command} " in out
    settings = OmegaConf.load(config_folder() / f"{module_of(command)}.yaml")
    for name in map(str, settings):
        if name not in ("defaults", "hydra"):
            assert f"\n{name}: " in out or f"\n{name}:\n" in out
    assert contents(tmp_path) == {}


def test_the_settings_are_printed_as_composed(tmp_path: Path) -> None:
    out = succeed("train", "--cfg", "job", "--resolve", "model=oadtr", "seed=5", folder=tmp_path)
    settings = OmegaConf.create(out)
    assert settings.model.kind == "oadtr"
    assert settings.trainer.seed == 5
    assert settings.out == "runs/exercises-oadtr"
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("nope", ("'nope'", "train, replay, report, export, cost, data import, data inspect")),
        ("data", ("data needs one of import, inspect, check, merge",)),
        ("data export path=x", ("'data export'",)),
        ("out=x train", ("'out=x'",)),
        ("train model.windw=3", ("model.windw is not a setting", "`coadtr train --help`")),
        ("train +trainer.speed=3 dataset.path=data.h5", ("trainer.speed is not a setting",)),
        ("train model=gru", ("model=gru", CHOICES)),
        ("train experiment=exercises/gru", ("experiment=exercises/gru", "exercises/grab", "`coadtr train --help`")),
        ("cost features=i3d", ("features=i3d", "anet, anet_audio, exercises")),
        ("train fast", ("'fast' is not a setting", "name=value")),
        ("train =3", ("'=3' has no name",)),
        ("train dataset.path=${nope}", ("dataset.path", "'nope' not found")),
        ("train --fast", ("unknown flag '--fast'", "--multirun")),
        ("train --experimental-rerun=x.pickle", ("unknown flag '--experimental-rerun=x.pickle'",)),
        ("train --cfg all_of_it", ("invalid choice: 'all_of_it'",)),
        ("train ~model dataset.path=data.h5", ("model is a group of settings, got None",)),
        ("train trainer.max_epochs=many dataset.path=data.h5", ("trainer.max_epochs", "'many'")),
        ("train trainer.precision=16 dataset.path=data.h5", ("trainer.precision", "16")),
        ("train trainer.precision=half dataset.path=data.h5", ("recision", "'half'")),
        ("train trainer.accelerator=abacus dataset.path=data.h5", ("abacus",)),
        (
            "train trainer.devices=0 dataset.path=data.h5",
            ("error: trainer.devices must be a whole number of at least 1",),
        ),
        ("train trainer.nodes=2 dataset.path=data.h5", ("trainer.nodes=2 needs torchrun or srun", "docs/training.md")),
        ("train trainer.max_epochs=0 dataset.path=data.h5", ("error: trainer.max_epochs must be a whole number of",)),
        ("train trainer.loss.focal_gamma=-1 dataset.path=data.h5", ("error: trainer.loss.focal_gamma must be finite",)),
        ("train model.window=0 dataset.path=data.h5", ("error: model.window must be a whole number of at least 1",)),
        ("train model.input_dropout=2 dataset.path=data.h5", ("error: model.input_dropout must be at least 0",)),
        (
            "train trainer.sampling=sequences model=oadtr trainer.accelerator=cpu dataset.path=data.h5",
            ("error: trainer.sampling=sequences needs", "use trainer.sampling=windows"),
        ),
        ("train progress=5 dataset.path=data.h5", ("progress must be true or false, got 5",)),
        ("replay", ("checkpoint=... must be given", "`coadtr replay --help`")),
        ("replay checkpoint=run/checkpoint data=data.h5 protocol=thumos", ("'thumos'", "all, oadtr")),
        ("replay checkpoint=run/checkpoint data=data.h5 batch_size=0", ("batch_size", "0")),
        ("replay checkpoint=run/checkpoint data=data.h5 latency=5", ("latency is a group of settings, got 5",)),
        ("replay checkpoint=run/checkpoint data=data.h5 precision=int4", ("precision must be", "got 'int4'")),
        ("replay checkpoint=run/checkpoint data=data.h5 backend=fast", ("backend must be one of", "got 'fast'")),
        ("replay checkpoint=run/checkpoint data=data.h5 backend=cuda_graph", ("does not run on cpu", "eager")),
        ("replay checkpoint=run/checkpoint data=data.h5 device=abacus", ("'abacus'",)),
        ("export", ("give one of run=", "checkpoint=")),
        ("export run=run which=worst", ("'worst'",)),
        ("cost table=5", ("table must be true or false, got 5",)),
        ("cost model.num_heads=7", ("error: model.embed_dim must be a multiple of model.num_heads, got 1024 and 7",)),
        ("cost features.num_classes=1", ("error: features.num_classes must be a whole number of at least 2, got 1",)),
        ("data import", ("format=... must be given",)),
        (
            "data import format=tarball out=x.h5",
            ("format=tarball: there is no such choice", "audio-csv, audio-folders, csv, exercises"),
        ),
        ("data import format=oadtr out=x.h5", ("source=PATH",)),
        ("data import format=exercises out=x.h5 options.stream=a", ("options.stream is not a setting",)),
        ("data import format=exercises out=x.h5 options.seed=a", ("options.seed", "'a'")),
        ("data inspect", ("path=... must be given",)),
    ],
)
def test_a_wrong_call_ends_with_one_line(words: str, names: tuple[str, ...], workplace: Path) -> None:
    refuse(*words.split(), folder=workplace, code=2, names=names)


def test_a_misspelt_experiment_is_met_with_the_closest_ones(tmp_path: Path) -> None:
    words = ("train", "experiment=exercises/cooadtr_b11")
    count = len(list((config_folder() / "experiment").rglob("*.yaml")))
    listed = f"`coadtr train --help` lists all {count}\n"
    refuse(*words, folder=tmp_path, code=2, names=("choice; the closest are exercises/cooadtr_b1, exercises/", listed))
    outcome = call(*words, folder=tmp_path)
    assert outcome.err.count("exercises/cooadtr_b1") == 2, "once in the word that was given, and once as the closest"
    closest = outcome.err.partition("the closest are ")[2].partition(";")[0].split(", ")
    assert len(closest) == 3
    out = succeed("train", "--help", folder=tmp_path)
    for name in closest:
        group, _, choice = name.partition("/")
        choices = next(line for line in out.splitlines() if line.startswith(f"experiment/{group}: "))
        assert choice in choices.partition(": ")[2].split(", ")


def test_debug_shows_the_traceback_before_the_line(tmp_path: Path) -> None:
    plain = call("train", "dataset.path=none.h5", folder=tmp_path)
    debug = call("--debug", "train", "dataset.path=none.h5", folder=tmp_path)
    assert (plain.code, debug.code) == (1, 1)
    assert "Traceback" not in plain.err
    assert debug.err.startswith("Traceback")
    assert debug.err.endswith(plain.err)


@pytest.mark.parametrize("command", ["train", "replay checkpoint=run/checkpoint data=data.h5", "cost"])
def test_an_interrupted_command_says_so(command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"coadtr.cli.{command.split(maxsplit=1)[0]}.plain", interrupt)
    outcome = call(*command.split(), folder=workplace)
    again = "; run the same command again to go on" if command != "cost" else ""
    assert (outcome.code, outcome.err) == (130, f"coadtr: interrupted{again}\n")


def test_a_fault_of_ours_keeps_its_traceback(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("coadtr.cli.data_inspect.summarise", break_down)
    with pytest.raises(RuntimeError, match="not foreseen"):
        call("data", "inspect", "path=data.h5", folder=workplace)


def test_a_failed_job_ends_a_sweep(workplace: Path) -> None:
    outcome = call("data", "inspect", "--multirun", "path=none.h5,data.h5", folder=workplace)
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert "none.h5" in outcome.err
