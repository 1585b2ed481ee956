"""Frame losses against sums by hand, torch's and torchvision's own, and what they leave out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from coadtr.data import NO_LOSS
from coadtr.errors import ConfigError, ShapeError
from coadtr.scoring import Head
from coadtr.training.losses import FrameLoss, LossSettings, class_weights

COUNTS = (50, 30, 0, 20)


def _labels(head: Head, shape: tuple[int, ...], *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if head == "softmax":
        return torch.randint(4, shape, generator=generator)
    return torch.randint(2, (*shape, 4), generator=generator).double()


def test_index_labels_average_over_the_frames_that_carry_loss() -> None:
    logits, labels = torch.randn(2, 5, 4), torch.randint(4, (2, 5))
    labels[0, :3] = -100
    kept = labels != -100
    total, count = FrameLoss()(logits, labels)
    torch.testing.assert_close(total / count, F.cross_entropy(logits[kept], labels[kept]))


def test_multi_hot_labels_sum_over_classes_and_average_over_frames() -> None:
    logits, labels = torch.randn(2, 5, 4), torch.randint(2, (2, 5, 4)).float()
    mask = torch.tensor([[True, False, True, True, False]]).expand(2, 5)
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(-1)
    for kept in (mask, None):
        total, count = FrameLoss(head="sigmoid")(logits, labels, kept)
        torch.testing.assert_close(total / count, each.mean() if kept is None else each[kept].mean())


def test_no_frame_with_loss_gives_zero_and_no_gradient() -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss, count = FrameLoss()(logits, torch.full((1, 3), -100))
    loss.backward()
    assert (loss.item(), count.item()) == (0, 0)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_balanced_weights_by_hand() -> None:
    weights = class_weights(COUNTS, LossSettings(class_weights="balanced"))
    # 100 frames of 3 classes: each class gets a third of the weight of all.
    np.testing.assert_allclose(weights, [100 / 3 / 50, 100 / 3 / 30, 0, 100 / 3 / 20])


def test_effective_weights_by_hand() -> None:
    weights = class_weights([1, 2, 0], LossSettings(class_weights="effective", effective_beta=0.5))
    # Effective numbers 1 and 1.5, so weights go as 3 to 2; 3 a + 2 * 2 a = 3 frames.
    np.testing.assert_allclose(weights, [9 / 7, 6 / 7, 0])
    even = class_weights(COUNTS, LossSettings(class_weights="effective", effective_beta=0))
    np.testing.assert_allclose(even, [1, 1, 0, 1])


@pytest.mark.parametrize("weighting", ["balanced", "effective"])
@pytest.mark.parametrize("ignored", [None, 1])
def test_the_mean_weight_over_the_frames_with_loss_is_one(weighting: Any, ignored: int | None) -> None:
    weights = class_weights(COUNTS, LossSettings(class_weights=weighting), ignored)
    frames = np.array([0 if index == ignored else count for index, count in enumerate(COUNTS)])
    assert (weights * frames).sum() / frames.sum() == pytest.approx(1)
    assert ((weights == 0) == (frames == 0)).all()


def test_classes_that_never_occur_are_named_and_cost_nothing() -> None:
    loss = FrameLoss(LossSettings(class_weights="balanced"), counts=[5, 0, 0, 5], ignored=1)
    assert loss.absent == (2,)
    logits = torch.randn(3, 4)
    total, count = loss(logits, torch.tensor([0, 2, 3]))
    torch.testing.assert_close(total, F.cross_entropy(logits[[0, 2]], torch.tensor([0, 3]), reduction="sum"))
    assert count.item() == 3
    assert FrameLoss(counts=COUNTS).absent == (2,)
    assert FrameLoss().absent == ()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighting", ["none", "balanced", "effective"])
def test_cross_entropy_equals_that_of_torch(smoothing: float, weighting: Any) -> None:
    settings = LossSettings(class_weights=weighting, label_smoothing=smoothing)
    logits, labels = torch.randn(2, 6, 4, dtype=torch.float64), _labels("softmax", (2, 6))
    labels[1, 2:4] = NO_LOSS
    weights = torch.from_numpy(class_weights(COUNTS, settings))
    total, count = FrameLoss(settings, counts=COUNTS)(logits, labels)
    wanted = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), weights, reduction="sum", label_smoothing=smoothing
    )
    torch.testing.assert_close(total, wanted)
    assert count.item() == 10


def test_mixed_labels_cost_their_shares_as_in_torch() -> None:
    logits, shares = torch.randn(2, 6, 4), torch.rand(2, 6, 4).softmax(-1)
    mask = torch.rand(2, 6) < 0.7
    settings = LossSettings(class_weights="balanced")
    weights = torch.from_numpy(class_weights(COUNTS, settings)).float()
    total, count = FrameLoss(settings, counts=COUNTS)(logits, shares, mask)
    torch.testing.assert_close(total, F.cross_entropy(logits[mask], shares[mask], weights, reduction="sum"))
    assert count.item() == mask.sum()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_by_hand(gamma: float) -> None:
    # Odds of 3 to 1: p = 3/4 for the right class.
    logits = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    settings = LossSettings(kind="focal", focal_gamma=gamma)
    total, _ = FrameLoss(settings)(logits, torch.tensor([0]))
    assert total.item() == pytest.approx(0.25**gamma * math.log(4 / 3))
    total, _ = FrameLoss(settings, head="sigmoid")(logits, torch.tensor([[1.0, 0.0]]))
    assert total.item() == pytest.approx(0.25**gamma * math.log(4 / 3) + 0.5**gamma * math.log(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sigmoid_focal_loss_equals_that_of_torchvision(smoothing: float) -> None:
    logits, labels = torch.randn(2, 6, 4, dtype=torch.float64), _labels("sigmoid", (2, 6))
    settings = LossSettings(kind="focal", focal_gamma=1.5, label_smoothing=smoothing)
    total, count = FrameLoss(settings, head="sigmoid")(logits, labels)
    smooth = labels * (1 - smoothing) + smoothing / 2
    torch.testing.assert_close(total, sigmoid_focal_loss(logits, smooth, alpha=-1, gamma=1.5, reduction="sum"))
    assert count.item() == 12


def test_sigmoid_weights_count_for_what_is_there_alone() -> None:
    settings = LossSettings(class_weights="balanced")
    weights = class_weights(COUNTS, settings)
    total, _ = FrameLoss(settings, counts=COUNTS, head="sigmoid")(torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 1.0]]))
    assert total.item() == pytest.approx((weights[0] + 1 + 1 + weights[3]) * math.log(2))


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kind", ["cross_entropy", "focal"])
@pytest.mark.parametrize(("weighting", "smoothing"), [("none", 0.0), ("balanced", 0.1)])
def test_gradients_are_those_of_the_differences(head: Head, kind: Any, weighting: Any, smoothing: float) -> None:
    settings = LossSettings(kind=kind, focal_gamma=1.7, class_weights=weighting, label_smoothing=smoothing)
    loss = FrameLoss(settings, counts=COUNTS, head=head, ignored=3)
    logits, labels = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True), _labels(head, (2, 3))
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.autograd.gradcheck(lambda values: loss(values, labels, mask)[0], logits)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sure_answers_have_finite_gradients(head: Head, gamma: float) -> None:
    logits = torch.tensor([[500.0, -500.0, 0.0, -500.0]], requires_grad=True)
    for label in range(4):
        labels = torch.tensor([label]) if head == "softmax" else F.one_hot(torch.tensor([label]), 4).float()
        total, _ = FrameLoss(LossSettings(kind="focal", focal_gamma=gamma), head=head)(logits, labels)
        (gradient,) = torch.autograd.grad(total, logits)
        assert torch.isfinite(total)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("kind", "smoothing"), [("cross_entropy", 0.0), ("cross_entropy", 0.1), ("focal", 0.0)])
def test_all_frames_masked_give_zero(head: Head, kind: Any, smoothing: float) -> None:
    loss = FrameLoss(LossSettings(kind=kind, label_smoothing=smoothing), head=head)
    logits = torch.randn(2, 3, 4, requires_grad=True)
    total, count = loss(logits, _labels(head, (2, 3)), torch.zeros(2, 3, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(total, logits)
    assert (total.item(), count.item()) == (0, 0)
    assert not gradient.any()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_frames_of_the_ignored_class_carry_no_loss_and_its_logit_stays(head: Head, smoothing: float) -> None:
    loss = FrameLoss(LossSettings(label_smoothing=smoothing), head=head, ignored=2)
    logits = torch.randn(6, 4, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 2, 3, 0])
    kept = labels != 2
    hot = F.one_hot(labels, 4).double()
    total, count = loss(logits, labels if head == "softmax" else hot)
    assert count.item() == 4
    if head == "softmax":
        others = torch.tensor([1.0, 1, 0, 1]).double()
        smooth = hot * (1 - smoothing) + others * smoothing / 3
        wanted = F.cross_entropy(logits[kept], smooth[kept], reduction="sum")
        torch.testing.assert_close(loss(logits, hot)[0], wanted)
    else:
        smooth = hot * (1 - smoothing) + smoothing / 2
        wanted = F.binary_cross_entropy_with_logits(logits[kept], smooth[kept], reduction="sum")
    torch.testing.assert_close(total, wanted)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(head: Head, dtype: torch.dtype) -> None:
    labels = _labels(head, (2, 6))
    logits = torch.randn(2, 6, 4).to(dtype)
    for settings in (LossSettings(), LossSettings(label_smoothing=0.1), LossSettings(kind="focal")):
        loss = FrameLoss(settings, head=head)
        total, _ = loss(logits, labels)
        assert total.dtype == torch.float32
        assert total.item() == loss(logits.float(), labels)[0].item()


def test_parts_of_a_batch_add_up() -> None:
    loss = FrameLoss(LossSettings(kind="focal", class_weights="effective", label_smoothing=0.1), counts=COUNTS)
    logits, labels = torch.randn(4, 5, 4, dtype=torch.float64), _labels("softmax", (4, 5))
    labels[0] = NO_LOSS
    whole = loss(logits, labels)
    parts = [loss(logits[row], labels[row]) for row in range(4)]
    torch.testing.assert_close(torch.stack([total for total, _ in parts]).sum(), whole[0])
    assert sum(count.item() for _, count in parts) == whole[1].item() == 15


def test_anticipated_frames_have_one_dimension_more() -> None:
    logits, labels = torch.randn(2, 5, 3, 4), _labels("softmax", (2, 5, 3))
    total, count = FrameLoss()(logits, labels)
    torch.testing.assert_close(total, F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="sum"))
    assert count.item() == 30


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kind": "hinge"}, "kind must be one of cross_entropy, focal, got 'hinge'"),
        ({"class_weights": "inverse"}, "class_weights must be one of none, balanced, effective, got 'inverse'"),
        ({"focal_gamma": -1.0}, r"focal_gamma must be finite and not negative, got -1\.0"),
        ({"ahead_weight": math.inf}, "ahead_weight must be finite and not negative, got inf"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be at least 0 and below 1, got 1\.0"),
        ({"effective_beta": math.nan}, "effective_beta must be at least 0 and below 1, got nan"),
        ({"focal_gamma": "2"}, "focal_gamma must be a number, got '2'"),
    ],
)
def test_bad_settings_are_named(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        LossSettings(**values)


def test_bad_arguments_are_named() -> None:
    balanced = LossSettings(class_weights="balanced")
    head: Any = "linear"
    with pytest.raises(ConfigError, match="head must be one of softmax, sigmoid, got 'linear'"):
        FrameLoss(head=head)
    with pytest.raises(ConfigError, match="class_weights='balanced' needs the training frames per class"):
        FrameLoss(balanced)
    with pytest.raises(ConfigError, match="no training frame carries a class: use class_weights='none'"):
        FrameLoss(balanced, counts=[0, 7], ignored=1)
    with pytest.raises(ShapeError, match="frames of 2 classes were counted, but the logits have 4"):
        FrameLoss(balanced, counts=[5, 7])(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"labels are class indices, but head='sigmoid' needs multi-hot"):
        FrameLoss(head="sigmoid")(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"logits \(3, 4\) need labels \(3,\) int64 or \(3, 4\) float, got \(2,\)"):
        FrameLoss()(torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"logits \(3, 4\) need a mask \(3,\), got \(3, 4\)"):
        FrameLoss()(torch.zeros(3, 4), torch.zeros(3, 4), torch.ones(3, 4, dtype=torch.bool))
