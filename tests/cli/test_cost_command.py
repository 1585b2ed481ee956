"""``coadtr cost``: tables, JSON, a checkpoint, and the way from a raw frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import coadtr
from coadtr.checkpoint import CheckpointSpec, save_checkpoint
from coadtr.evaluation import executed_macs, published_macs
from coadtr.models import build_model, config_from_dict, preset
from tests.cli.calling import SMALL, contents, refuse, succeed

MODEL = SMALL[:-1]
QUICK = ("warmup=0", "steps=2", "rounds=1")
SIZES: dict[str, Any] = {"window": 8, "embed_dim": 16, "ff_dim": 16, "num_heads": 2}
LITE = {
    "backbone": "efficientnet_lite0",
    "sampling": "lstr: 24 frames a second, chunks of 6, the 4th for one image",
}
FRAME = ("frame.height=48", "frame.width=64")


def cost_of(folder: Path, *arguments: str) -> dict[str, Any]:
    succeed("cost", *arguments, *QUICK, "out=cost.json", folder=folder)
    found: dict[str, Any] = json.loads((folder / "cost.json").read_text())
    return found


def write_checkpoint(folder: Path, streams: dict[str, int], **told: str) -> Path:
    config = preset("cooadtr_b1", input_dim=sum(streams.values()), num_classes=2, **SIZES)
    spec = CheckpointSpec(
        model=config,
        class_names=("rest", "lift"),
        background=0,
        ignored=None,
        streams=streams,
        rate_hz=4.0,
        extractors={"rgb": {**LITE, **told}} if "rgb" in streams else {},
    )
    return save_checkpoint(folder / "checkpoint", build_model(config), spec, {})


def test_json_holds_what_was_asked_for(tmp_path: Path) -> None:
    plain = cost_of(tmp_path, *MODEL, "model=cooadtr_b2", "features=exercises")
    config = config_from_dict(plain["model"])
    assert config == preset("cooadtr_b2", input_dim=60, num_classes=7, **SIZES)
    assert plain["macs_per_frame"] == sum(plain["macs_by_block"].values()) == executed_macs(config)
    assert plain["macs_per_frame_published"] == sum(plain["macs_by_block_published"].values()) == published_macs(config)
    assert (plain["step_latency_ms"], plain["throughput"], plain["from_frame"]) == (None, [], None)
    assert plain["weights_bytes"] >= 4 * plain["parameters"]
    assert plain["peak_memory_bytes"] > plain["weights_bytes"]
    timed = cost_of(tmp_path, *MODEL, "model.depth=3", "latency=true", "streams=[1,3]", "threads=1")
    assert timed["step_latency_ms"]["steps"] == 2
    assert [one["streams"] for one in timed["throughput"]] == [1, 3]
    assert (timed["macs_per_frame_published"], timed["macs_by_block_published"]) == (None, None)
    assert timed["machine"]["threads"] == 1
    assert set(contents(tmp_path)) == {"cost.json"}


def test_table_by_block_has_both_countings(tmp_path: Path) -> None:
    out = succeed("cost", "model=oadtr_b1", *MODEL, "features=exercises", "blocks=true", folder=tmp_path)
    config = preset("oadtr_b1", input_dim=60, num_classes=7, **SIZES)
    rows = {line.strip("│ ").split("│")[0].strip(): line for line in out.splitlines() if "│" in line}
    assert f"{8 * 60 * 16:,}" in rows["inputs"]
    assert f"{executed_macs(config):,}" in rows["total"]
    assert f"{published_macs(config):,}" in rows["total"]
    assert "0.0%" in rows["unused classifier"]


def test_a_checkpoint_is_measured_as_it_is(workplace: Path) -> None:
    found = cost_of(workplace, "checkpoint=run/checkpoint")
    assert found["checkpoint"] == "run/checkpoint"
    assert found["model"] == coadtr.load(workplace / "run/checkpoint").spec.model.to_dict()


def test_a_model_takes_the_features_of_the_backbone(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="the extra `video` brings the backbone")
    found = cost_of(tmp_path, *MODEL, "backbone=efficientnet_lite0", *FRAME)
    assert found["model"]["input_dim"] == 1280
    way = found["from_frame"]
    assert way["frame"] == {"height_px": 48, "width_px": 64, "dtype": "uint8"}
    assert way["extractor"].items() >= LITE.items()
    assert list(way["latency_ms"]) == ["prepare", "backbone", "step", "total"]
    parts = [way["latency_ms"][name]["mean"] for name in ("prepare", "backbone", "step")]
    assert way["latency_ms"]["total"]["mean"] == pytest.approx(sum(parts))


def test_a_checkpoint_takes_only_the_backbone_that_it_was_trained_on(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="the extra `video` brings the backbone")
    call = ("cost", "checkpoint=checkpoint", "backbone=efficientnet_lite0", *FRAME, *QUICK)
    write_checkpoint(tmp_path, {"rgb": 1280})
    assert "from a raw frame of 64x48" in " ".join(succeed(*call, folder=tmp_path).split())
    refuse(*call, "sampling=rate", folder=tmp_path, code=1, names=("sampling 'rate: 4 features", "trained on 'lstr"))
    others = tmp_path / "others"
    for number, (streams, told, names) in enumerate(
        [
            ({"rgb": 1280, "flow": 32}, {}, ("rgb 1280 + flow 32", "stream 'flow' is missing")),
            ({"rgb": 2048}, {}, ("1280 channels, not 2048",)),
            ({"rgb": 1280}, {"backbone": "resnet50"}, ("backbone 'efficientnet_lite0'", "'resnet50'")),
            ({"rgb": 1280}, {"weights": "mine"}, ("weights 'ImageNet", "'mine'")),
        ]
    ):
        folder = others / str(number)
        write_checkpoint(folder, streams, **told)
        refuse(*call, folder=folder, code=1, names=names)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("weights=IMAGENET1K_V1", ("weights=IMAGENET1K_V1 is for a backbone",)),
        ("clip=16", ("clip=16 is for a backbone",)),
        ("streams=[1,0]", ("streams must be a list of whole numbers of at least 1", "[1, 0]")),
        ("frame.height=0", ("frame.height must be a whole number of at least 1, got 0",)),
        ("steps=0", ("steps must be",)),
        ("table=true out=x.json", ("out=x.json is for one model",)),
        ("out=.", ("is a folder", "cost.json")),
        ("device=nope", ("device 'nope' cannot be used here",)),
        ("backbone=efficientnet_lite0 sampling=rate sampling.rate_hz=0", ("sampling.rate_hz=0",)),
        ("sampling.preset=dense backbone=efficientnet_lite0", ("'dense'",)),
    ],
)
def test_a_call_that_cannot_work_is_refused(arguments: str, names: tuple[str, ...], tmp_path: Path) -> None:
    refuse("cost", *MODEL, *arguments.split(), folder=tmp_path, code=2, names=names)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    refuse("cost", "checkpoint=nowhere", folder=tmp_path, code=1, names=("nowhere: there is no such folder",))
