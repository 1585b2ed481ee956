"""The frame loss against torch's, and what it leaves out."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from coadtr.training import frame_loss


def test_index_labels_average_over_the_frames_that_carry_loss() -> None:
    logits, labels = torch.randn(2, 5, 4), torch.randint(4, (2, 5))
    labels[0, :3] = -100
    kept = labels != -100
    torch.testing.assert_close(frame_loss(logits, labels), F.cross_entropy(logits[kept], labels[kept]))


def test_multi_hot_labels_sum_over_classes_and_average_over_frames() -> None:
    logits, labels = torch.randn(2, 5, 4), torch.randint(2, (2, 5, 4)).float()
    mask = torch.tensor([[True, False, True, True, False]]).expand(2, 5)
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(-1)
    torch.testing.assert_close(frame_loss(logits, labels, mask), each[mask].mean())
    torch.testing.assert_close(frame_loss(logits, labels), each.mean())


def test_no_frame_with_loss_gives_zero_and_no_gradient() -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss = frame_loss(logits, torch.full((1, 3), -100))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
