"""What a training step takes the loss of: answers, the frames ahead of the newest, and drafts, each by its weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.models import build_model
from coadtr.training.losses import FrameLoss, LossSettings
from coadtr.training.module import DetectionModule

from .test_run import settings
from .test_ways import CMERT, OADTR

CLASSES = ("rest", "lift", "turn")


def parts_of_a_step(
    kind: dict[str, Any], batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, list[Any]]:
    """Return what the model answers for a batch, and the weighted sums that a training step averages."""
    torch.manual_seed(0)
    model = build_model({**kind, "input_dim": 4, "num_classes": 3, "dropout": 0.0})
    loss = LossSettings(ahead_weight=0.75)
    module = DetectionModule(
        model,
        settings(loss=loss),
        FrameLoss(loss, head="softmax" if "mask" not in batch else "sigmoid"),
        sequences=False,
        class_names=CLASSES,
        background=0,
        ignored=None,
    )
    monkeypatch.setattr(module, "_mean", lambda parts, *_args, **_told: parts)
    parts: Any = module.training_step(batch, 0)
    return model.learn_clip(batch["frames"], batch["first_frame"]), parts


@pytest.mark.parametrize(("kind", "learnt", "ahead"), [(CMERT, 4, 5), (OADTR, 1, 3)], ids=["cmert", "oadtr"])
@pytest.mark.parametrize("multi_hot", [False, True], ids=["one_hot", "multi_hot"])
def test_each_part_is_held_against_the_labels_of_its_own_frames(
    monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any], learnt: int, ahead: int, *, multi_hot: bool
) -> None:
    random = torch.Generator().manual_seed(1)
    batch = {
        "frames": torch.randn(3, kind["window"], 4, generator=random),
        "first_frame": torch.tensor([0, 5, 9]),
        "labels": torch.randint(3, (3, learnt), generator=random),
        "ahead_labels": torch.randint(3, (3, learnt, ahead), generator=random),  # others after each frame
    }
    if multi_hot:
        batch |= {name: F.one_hot(batch[name], 3).float() for name in ("labels", "ahead_labels")}
        batch |= {"mask": torch.ones(3, learnt, dtype=torch.bool), "ahead_mask": torch.rand(3, learnt, ahead) > 0.3}
    answers, parts = parts_of_a_step(kind, batch, monkeypatch)
    newest = answers.ahead.shape[1]
    assert newest == 1

    def by_hand(logits: Tensor, labels: Tensor, mask: Tensor | None) -> float:
        if mask is None:
            return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum").item()
        each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(-1)
        return each[mask].sum().item()

    mask, later = batch.get("mask"), None if not multi_hot else batch["ahead_mask"][:, -1:]
    wanted = [(1.0, answers.now, batch["labels"], mask), (0.75, answers.ahead, batch["ahead_labels"][:, -1:], later)]
    wanted += [(weight, logits, batch["labels"], mask) for weight, logits in answers.drafts]
    assert [weight for weight, _ in parts] == [1.0, 0.75, *([0.1, 0.5] if learnt > 1 else [])]
    for (weight, (total, count)), (expected, logits, labels, kept) in zip(parts, wanted, strict=True):
        assert weight == expected
        assert total.item() == pytest.approx(by_hand(logits, labels, kept), rel=1e-5)
        assert count.item() == (logits[..., 0].numel() if kept is None else kept.sum())
