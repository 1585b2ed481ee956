"""The settings files: what they say is what the package says, all of them compose and train, every setting is used."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from coadtr import training
from coadtr.checkpoint import load
from coadtr.cli import cost, data_inspect, export, replay, train
from coadtr.cli.main import COMMANDS, config_folder, module_of
from coadtr.cli.options import typed_options
from coadtr.cli.settings import fill, plain
from coadtr.data import IMPORTERS, FeatureStore, StoreWriter, import_features
from coadtr.data.importers import planner
from coadtr.models import PRESETS, ModelConfig, build_model, config_from_dict, preset
from coadtr.training import TrainingResult, TrainingSettings
from tests.cli.calling import succeed
from tests.models.sizes import shrunk

EXPERIMENTS = sorted(
    path.relative_to(config_folder() / "experiment").with_suffix("").as_posix()
    for path in (config_folder() / "experiment").rglob("*.yaml")
)
FEATURES = {"anet": (3072, 22), "kinetics": (4096, 22), "exercises": (60, 7), "gtzan": (128, 10)}
FEATURES |= {"anet_audio": (7168, 22), "kinetics_audio": (8192, 22)}


def compose_plain(name: str, *overrides: str) -> dict[str, Any]:
    """Compose settings as the command does, and resolve them."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        settings = compose(name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(settings)  # as in a job: `name` asks for the choices of the groups
    with open_dict(settings):
        del settings["hydra"]
    return plain(settings)


@functools.cache
def compose_experiment(experiment: str) -> dict[str, Any]:
    """Compose the settings of an experiment, once for all tests; they are not to be written to."""
    return compose_plain("train", f"experiment={experiment}")


def test_every_command_has_a_file_and_every_file_a_command() -> None:
    files = {path.stem for path in config_folder().glob("*.yaml")}
    assert files == {module_of(command) for command in COMMANDS}


@pytest.mark.parametrize("path", sorted(config_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_hydra_leaves_no_files_and_the_help_is_ours(path: Path) -> None:
    settings: Any = OmegaConf.to_container(OmegaConf.load(path))  # the help is not resolved: `coadtr` does that
    hydra = settings["hydra"]
    command = next(command for command in COMMANDS if module_of(command) == path.stem)
    assert hydra["output_subdir"] is None
    assert hydra["run"]["dir"] == "."
    assert hydra["help"]["app_name"] == f"coadtr {command}"
    helped = hydra["help"]["template"] + hydra["help"].get("footer", "")
    assert helped.count(f"Example:  coadtr {command} ") == 1


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_file_equals_the_preset(name: str) -> None:
    settings = OmegaConf.to_container(OmegaConf.load(config_folder() / f"model/{name}.yaml"))
    assert isinstance(settings, dict)
    sizes = {"input_dim": 3072, "num_classes": 22}
    config = preset(name, **sizes)
    assert {**settings, **sizes} == config.to_dict()


def test_there_is_a_model_file_for_every_preset() -> None:
    assert {path.stem for path in (config_folder() / "model").glob("*.yaml")} == set(PRESETS)


def test_feature_files_carry_the_published_widths() -> None:
    found = {
        path.stem: tuple(dict(OmegaConf.load(path)).values()) for path in (config_folder() / "features").glob("*.yaml")
    }
    assert found == FEATURES


@pytest.mark.parametrize("trainer", ["published", "sequences", "clips"])
def test_a_trainer_file_sets_all_of_the_training_settings(trainer: str) -> None:
    settings = compose_plain("train", f"trainer={trainer}", "seed=7")
    built = fill(TrainingSettings, settings, "trainer")
    assert built.to_dict() == settings["trainer"]
    assert built.seed == 7


@pytest.mark.parametrize("trainer", ["published", "sequences", "clips"])
def test_trainer_files_differ_in_what_the_guide_tells_alone(trainer: str) -> None:
    told = {"sampling"} | (
        {"max_epochs", "batch_size", "stride", "learning_rate", "schedule"} if trainer != "published" else set()
    )
    built = fill(TrainingSettings, compose_plain("train", f"trainer={trainer}"), "trainer").to_dict()
    default = TrainingSettings().to_dict()
    assert {name for name, value in built.items() if value != default[name]} <= told


def test_the_published_trainer_is_as_published() -> None:
    built = fill(TrainingSettings, compose_plain("train", "trainer=published"), "trainer")
    assert (built.sampling, built.batch_size, built.schedule) == ("windows", 128, "step")
    assert (built.learning_rate, built.weight_decay) == (1e-4, 1e-4)


@functools.cache  # experiments that differ in their data alone share a model
def count_parameters(config: ModelConfig) -> int:
    """Build a model without its memory, and count."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_and_its_model_builds(experiment: str) -> None:
    settings = compose_experiment(experiment)
    dataset, model = experiment.split("/")
    assert settings["name"] == f"{dataset}-{model}"
    assert settings["out"] == f"runs/{dataset}-{model}"
    assert settings["dataset"]["path"] == f"data/{dataset}.h5"
    fill(TrainingSettings, settings, "trainer")
    wanted = PRESETS[model]
    assert {name: settings["model"][name] for name in wanted} == wanted
    config = config_from_dict({**settings["model"], "input_dim": 128, "num_classes": 18})
    assert count_parameters(config) > 0
    opening = (config_folder() / f"experiment/{experiment}.yaml").read_text().split("\ndefaults:")[0]
    assert f"coadtr train experiment={experiment}" in opening
    assert "cost" in opening
    assert "result" in opening


@pytest.fixture(scope="session")
def narrow_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a function that writes, once for each number of channels, a store of three short videos."""
    folder = tmp_path_factory.mktemp("stores")

    @functools.cache
    def write(channels: int) -> Path:
        path, rng = folder / f"{channels}.h5", np.random.default_rng(0)
        with StoreWriter(
            path, class_names=("rest", "lift", "turn"), background=0, ignored=None, streams={"all": channels}
        ) as writer:
            for name, split in (("a", "train"), ("b", "train"), ("c", "validation")):
                frames = rng.normal(size=(18, channels)).astype("f4")
                labels = np.arange(18) // 3 % 3
                writer.add(name, split=split, rate_hz=5.0, features={"all": frames}, labels=labels)
        return path

    return write


def channels_of(dataset: str) -> int:
    """Tell the channels of a data set: the published ones, or those of the features that come with MS-TCN's data."""
    return next((channels for name, (channels, _) in FEATURES.items() if dataset.endswith(name)), 2048)


# The other published experiments differ from those of THUMOS14's Kinetics features in their data set alone, but for
# TRN's width with ActivityNet features and MiniROAD's batch on TVSeries; those of GTEA from those of 50 Salads in their
# data set and their dropout.
REPEATED = ("thumos14_anet", "tvseries", "gtea")


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=[pytest.mark.slow] * name.startswith(REPEATED)) for name in EXPERIMENTS],
)
def test_an_experiment_learns_from_a_batch(
    experiment: str, narrow_store: Callable[[int], Path], tmp_path: Path
) -> None:
    settings = compose_experiment(experiment)
    wanted = fill(TrainingSettings, settings, "trainer")
    brief = dataclasses.replace(
        wanted, max_epochs=1, validate_every=1, warmup_epochs=min(0.5, wanted.warmup_epochs), accelerator="cpu",
        workers=0, sequence_length=min(16, wanted.sequence_length),
    )  # fmt: skip
    dataset, _, name = experiment.partition("/")
    model = shrunk(settings["model"], window=8)
    with FeatureStore.open(narrow_store(channels_of(dataset))) as store:
        result = training.train(store, model, brief, tmp_path / "run", progress=False)
    losses = pd.read_csv(tmp_path / "run/logs/csv/version_0/metrics.csv").groupby("epoch").max()
    assert losses["train_loss"].gt(0).all()
    assert 0 < result.validation_map <= 1
    assert load(result.checkpoint).model.config.kind == PRESETS[name]["kind"]


class Recorder(dict[str, Any]):
    """Settings that remember which of them were read."""

    def __init__(self, values: dict[str, Any], path: str, read: set[str]) -> None:
        super().__init__({k: Recorder(v, f"{path}{k}.", read) if isinstance(v, dict) else v for k, v in values.items()})
        self.path, self.read = path, read

    def __getitem__(self, key: str) -> Any:
        self.read.add(f"{self.path}{key}")
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(f"{self.path}{key}")
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().keys()))

    def keys(self) -> Any:
        return list(super().keys())

    def items(self) -> Any:
        return [(key, self[key]) for key in self.keys()]

    def leaves(self) -> set[str]:
        found: set[str] = set()
        for key in self.keys():
            value = super().__getitem__(key)
            found |= value.leaves() if isinstance(value, Recorder) else {f"{self.path}{key}"}
        return found


@pytest.mark.parametrize(
    ("command", "overrides"),
    [
        (replay, ["checkpoint=run/checkpoint", "data=data.h5", "latency.steps=1", "latency.warmup=0"]),
        (export, ["run=run", "out=last", "which=last"]),
        (cost, ["model.embed_dim=8"]),
        (data_inspect, ["path=data.h5"]),
    ],
    ids=["replay", "export", "cost", "data_inspect"],
)
def test_every_setting_is_used(
    command: Any, overrides: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = command.__name__.rpartition(".")[2]
    read: set[str] = set()
    recorder = Recorder(compose_plain(name, *overrides), "", read)
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", [f"coadtr {name}"])
    monkeypatch.setattr(command, "plain", lambda _: recorder)
    command.main(OmegaConf.create({"checkpoint": 1, "data": 1, "run": 1, "path": 1}))
    assert recorder.leaves() == read & recorder.leaves()


def test_every_setting_of_a_training_run_is_used(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = compose_plain("train", "dataset.path=data.h5", "resume=false", "progress=true", "seed=9")
    handed: dict[str, Any] = {}

    def keep(store: FeatureStore, model: Any, training: TrainingSettings, out: Path, **named: Any) -> TrainingResult:
        handed.update(named, path=str(store.path), model=model, trainer=training.to_dict(), out=str(out))
        return TrainingResult(out / "checkpoint", 0.5, 0)

    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", ["coadtr train", "seed=9"])
    monkeypatch.setattr(train, "plain", lambda _: settings)
    monkeypatch.setattr(train, "train", keep)
    assert train.main(OmegaConf.create({})) == 0.5
    assert handed.pop("command") == "coadtr train seed=9"
    assert callable(handed.pop("say"))
    wanted = {**settings, **settings["dataset"], **settings["features"]}
    # The name is part of `out`, and the seed is that of the trainer.
    assert wanted["name"] in wanted["out"]
    assert wanted["seed"] == wanted["trainer"]["seed"]
    left_out = ("dataset", "features", "name", "seed")
    assert {name: value for name, value in wanted.items() if name not in left_out} == handed


@pytest.mark.parametrize("layout", IMPORTERS)
def test_a_format_file_has_the_options_of_its_importer_with_their_defaults(layout: str) -> None:
    settings = compose_plain("data_import", f"format={layout}", "out=x.h5")
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(planner(layout)).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert settings["format"] == layout
    assert settings["options"] == options
    assert typed_options(planner(layout), options) == options
    helped = OmegaConf.load(config_folder() / f"format/{layout}.yaml").hydra.help.footer
    told = "\n".join(re.findall(r"^  (\w+: .*?) +# ", helped, re.MULTILINE))
    assert OmegaConf.to_container(OmegaConf.create(told)) == options
    assert helped.count("Example:") == 1
    assert f"Example:  coadtr data import format={layout}" in helped


def test_there_is_a_format_file_for_every_importer() -> None:
    assert {path.stem for path in (config_folder() / "format").iterdir()} == set(IMPORTERS)
    settings: Any = OmegaConf.to_container(OmegaConf.load(config_folder() / "data_import.yaml"))
    shown = settings["hydra"]["help"]["template"]
    assert all(layout in shown for layout in IMPORTERS)


def test_help_shows_what_the_comments_of_the_settings_say(tmp_path: Path) -> None:
    shown = succeed("data", "import", "format=lstr", "--help", folder=tmp_path)
    assert "align: error           # trim: where streams and labels" in shown
    assert re.search(r"targets: target_perframe +# folder of the labels", shown)
    shown = succeed("extract", "--help", folder=tmp_path)
    assert "workers: 1             # processes, each on a video of its own" in shown
    assert "hydra:" not in shown
    assert "defaults:" not in shown


def test_the_labels_of_extraction_are_the_options_of_a_table() -> None:
    labels = compose_plain("extract", "videos=x", "out=x.h5")["labels"]
    options = compose_plain("data_import", "format=csv", "out=x.h5")["options"]
    own = {"features", "rate_hz"}  # these come from the extraction
    assert labels == {name: value for name, value in options.items() if name not in own}


def test_the_data_of_the_features_file_are_those_of_the_store(tmp_path: Path) -> None:
    pytest.importorskip("seglearn", reason="needs the data set that the extra `demo` brings")
    import_features("exercises", None, tmp_path / "exercises.h5")
    with FeatureStore.open(tmp_path / "exercises.h5") as store:
        assert (sum(store.streams.values()), len(store.class_names)) == FEATURES["exercises"]
