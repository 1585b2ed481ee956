"""Descriptions check themselves, and the features and classes that a checkpoint meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coadtr.checkpoint import CheckpointSpec, load, save_checkpoint
from coadtr.errors import CheckpointError, ConfigError
from tests.checkpoint.conftest import MakeModel, MakeSpec

NAMES = ["rest", "lift", "unclear"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("rest", "lift")}, "2 class names for a model of 3 classes"),
        ({"class_names": ("rest", "lift", " ")}, "class 2 is named ' '"),
        ({"class_names": ("rest", "lift", "lift")}, "'lift' is used twice"),
        ({"background": 3}, "background must be the index of a class, 0 to 2, or None; got 3"),
        ({"background": True}, "got True"),
        ({"ignored": 1.0}, r"ignored must be .* got 1\.0"),
        ({"ignored": 0}, "class 0 cannot be background and ignored"),
        ({"streams": {"rgb": 3, "flow": 3}}, r"takes 5 channels, the streams \(rgb 3 \+ flow 3\) have 6"),
        ({"streams": {"rgb": 5, "flow": 0}}, "stream 'flow' must have .* got 0"),
        ({"streams": {"": 5}}, "a feature stream is named ''"),
        ({"streams": {}}, r"the streams \(none\) have 0"),
        ({"rate_hz": -5.0}, "rate_hz must be a finite number above 0, got -5.0"),
        ({"rate_hz": float("inf")}, "got inf"),
        ({"head": "max"}, "head must be one of softmax, sigmoid, got 'max'"),
    ],
)
def test_contradictions_are_refused(
    changes: dict[str, Any], message: str, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_spec(make_model(), **changes)


def test_description_keeps_containers_of_its_own(make_model: MakeModel, make_spec: MakeSpec) -> None:
    streams, names = {"rgb": 3, "flow": 2}, list(NAMES)
    spec = make_spec(make_model(), streams=streams, class_names=names)
    streams["audio"] = 7
    names.append("more")
    assert spec.streams == {"rgb": 3, "flow": 2}
    assert spec.class_names == tuple(NAMES)


def test_json_object_is_read_back(make_model: MakeModel, make_spec: MakeSpec) -> None:
    spec = make_spec(make_model("oadtr"))
    assert CheckpointSpec.from_dict(spec.to_dict()) == spec


def test_fitting_features_are_accepted(saved: Path) -> None:
    checkpoint = load(saved)
    checkpoint.check_features({"rgb": 3, "flow": 2}, 5.0, NAMES)
    checkpoint.check_features({"rgb": 3, "flow": 2}, 5.049, NAMES)
    checkpoint.check_features({"rgb": 3, "flow": 2})
    assert checkpoint.spec.streams == {"rgb": 3, "flow": 2}


@pytest.mark.parametrize(
    ("streams", "rate_hz", "names", "message"),
    [
        ({"rgb": 4, "flow": 2}, 5.0, NAMES, "stream 'rgb' has 4 channels, not 3"),
        ({"flow": 2, "rgb": 3}, 5.0, NAMES, "the streams are in another order"),
        ({"rgb": 3}, 5.0, NAMES, "stream 'flow' is missing"),
        ({"rgb": 3, "flow": 2, "audio": 1}, 5.0, NAMES, "the model knows no stream 'audio'"),
        ({"rgb": 3, "flow": 2}, 5.06, NAMES, "trained at 5 frames a second, the features have 5.06"),
        ({"rgb": 3, "flow": 2}, float("nan"), NAMES, "the features have nan"),
        (
            {"rgb": 3, "flow": 2},
            None,
            ["rest", "push", "unclear"],
            "data have no class lift; the model has no class push",
        ),
        ({"rgb": 3, "flow": 2}, None, ["rest", "lift"], "the data have no class unclear"),
        ({"rgb": 3, "flow": 2}, None, [*NAMES, "jump"], "the model has no class jump"),
        (
            {"rgb": 3, "flow": 2},
            None,
            ["lift", "rest", "unclear"],
            "class 0 is 'lift' in the data and 'rest' in the model",
        ),
        ({"rgb": 3, "flow": 2}, None, [*NAMES, "rest"], "the data list 4 classes, some twice, the model has 3"),
    ],
)
def test_other_features_are_refused_by_name(
    streams: dict[str, int], rate_hz: float | None, names: list[str], message: str, saved: Path
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved).check_features(streams, rate_hz, names)
    assert str(saved) in str(caught.value)


def test_other_special_classes_are_refused_by_name(saved: Path) -> None:
    checkpoint = load(saved)
    streams, special = {"rgb": 3, "flow": 2}, (checkpoint.spec.background, checkpoint.spec.ignored)
    checkpoint.check_features(streams, 5.0, NAMES, special_classes=special)
    with pytest.raises(CheckpointError, match="the background class is none in the data and 'rest' in the model"):
        checkpoint.check_features(streams, 5.0, NAMES, special_classes=(None, special[1]))
    other = 1 if special[1] != 1 else 2
    with pytest.raises(CheckpointError, match=f"the ignored class is '{NAMES[other]}' in the data and"):
        checkpoint.check_features(streams, 5.0, NAMES, special_classes=(special[0], other))


def test_what_made_the_features_travels_with_the_checkpoint(
    tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    made = {"rgb": {"backbone": "efficientnet_lite0", "weights": "imagenet"}}
    model = make_model()
    spec = make_spec(model, extractors=made)
    assert CheckpointSpec.from_dict(spec.to_dict()) == spec
    checkpoint = load(save_checkpoint(tmp_path / "checkpoint", model, spec, {}))
    assert checkpoint.spec.extractors == made
    streams = {"rgb": 3, "flow": 2}
    checkpoint.check_features(streams, extractors=made)
    checkpoint.check_features(streams, extractors={})  # of unknown origin
    checkpoint.check_features(streams, extractors={"flow": {"backbone": "raft"}})
    with pytest.raises(
        CheckpointError,
        match="stream 'rgb' were made with backbone 'resnet50', the model was trained on 'efficientnet_lite0'; extract",
    ):
        checkpoint.check_features(streams, extractors={"rgb": {"backbone": "resnet50"}})
    with pytest.raises(CheckpointError, match="made with weights 'kinetics', the model was trained on 'imagenet'"):
        checkpoint.check_features(
            streams, extractors={"rgb": {"backbone": "efficientnet_lite0", "weights": "kinetics"}}
        )


def test_a_checkpoint_of_before_extractors_is_read(make_model: MakeModel, make_spec: MakeSpec) -> None:
    written = make_spec(make_model()).to_dict()
    assert "extractors" not in written
    assert CheckpointSpec.from_dict(written).extractors == {}


@pytest.mark.parametrize(
    ("extractors", "message"),
    [
        ([], r"extractors must be texts by stream.*got \[\]"),
        ({"rgb": {"backbone": 3}}, "extractors must be texts by stream"),
        ({"audio": {"backbone": "vggish"}}, "names the stream 'audio', which the model does not take"),
    ],
)
def test_extractors_of_another_kind_are_refused(
    make_model: MakeModel, make_spec: MakeSpec, extractors: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_spec(make_model(), extractors=extractors)
