"""Losses over frames, leaving out those without loss: cross-entropy or focal, classes weighted, labels smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from coadtr.data import NO_LOSS
from coadtr.errors import ConfigError, ShapeError
from coadtr.models.config import check_fraction, check_one_of, check_types
from coadtr.scoring import HEADS, Head

__all__ = ["FrameLoss", "LossSettings", "class_weights"]

KINDS = ("cross_entropy", "focal")
WEIGHTINGS = ("none", "balanced", "effective")


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """What a frame's answer is held against. Defaults are the published ones: plain cross-entropy.

    Attributes:
        kind: ``"cross_entropy"``, or ``"focal"``: sure answers that are right weigh less.
        focal_gamma: Exponent of the focal loss; 0 makes it cross-entropy.
        class_weights: ``"none"``; ``"balanced"``: a class weighs inversely to its frames; ``"effective"``: inversely to
            its effective number of frames. The mean weight over the training frames is 1.
        effective_beta: Beta of the effective number, which is at most 1 / (1 - beta) however many frames there are.
        label_smoothing: Share of a label that is spread over the classes.
        ahead_weight: Weight of the loss of anticipated frames beside that of the frames themselves, which is 1.

    Source: Lin et al., ICCV 2017 (focal); Cui et al., CVPR 2019 (effective number); Szegedy et al., CVPR 2016, section
    7 (label smoothing).

    Example:
        >>> LossSettings(kind="focal").focal_gamma
        2.0
    """

    kind: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0
    class_weights: Literal["none", "balanced", "effective"] = "none"
    effective_beta: float = 0.999
    label_smoothing: float = 0.0
    ahead_weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values that nothing can be trained with."""
        check_types(self)
        check_one_of(self, "kind", KINDS)
        check_one_of(self, "class_weights", WEIGHTINGS)
        check_fraction(self, "effective_beta", "label_smoothing")
        for name in ("focal_gamma", "ahead_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be finite and not negative, got {getattr(self, name)!r}")


def class_weights(
    counts: Sequence[int] | NDArray[Any], settings: LossSettings, ignored: int | None = None
) -> NDArray[np.float64]:
    """Compute the weight of each class, with a mean over the training frames of 1.

    Args:
        counts: ``(C,)`` training frames of each class.
        settings: How classes are weighted.
        ignored: Index of the class that carries no loss, or None.

    Returns:
        ``(C,)`` weights; 0 for a class that never occurs, and for the ignored one. With ``class_weights="none"`` all 1.

    Raises:
        ConfigError: If no frame carries a class that could be weighted.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, equation 2. There the
    weights sum to C; here their mean over frames is 1, so that a learning rate keeps its meaning.

    Example:
        >>> class_weights([30, 10], LossSettings(class_weights="balanced")).tolist()
        [0.6666666666666666, 2.0]
    """
    frames = np.array(counts, np.float64)
    if settings.class_weights == "none":
        return np.ones_like(frames)
    if ignored is not None:
        frames[ignored] = 0
    occurs = frames > 0
    if not occurs.any():
        raise ConfigError(
            f"class_weights={settings.class_weights!r}, but no training frame carries a class: use class_weights='none'"
        )
    number = frames[occurs]
    if settings.class_weights == "effective":
        number = (1 - settings.effective_beta**number) / (1 - settings.effective_beta)
    weights = np.zeros_like(frames)
    weights[occurs] = 1 / number
    return np.asarray(weights * (frames.sum() / (weights * frames).sum()))


class FrameLoss:
    """Sum the loss over the frames that carry one, and count them, so that parts of a batch average exactly.

    With a softmax, labels q (one-hot, smoothed or mixed) cost ``-sum_c w_c q_c log p_c``; the focal loss puts
    ``(1 - p_c)^gamma`` before each term. With a sigmoid, each class costs
    ``-w_c q_c log p_c - (1 - q_c) log(1 - p_c)``, and the focal loss weighs the binary cross-entropy by
    ``(1 - r_c)^gamma``, r_c = q_c p_c + (1 - q_c)(1 - p_c). Smoothing turns q_c into ``(1 - s) q_c + s / n``: with
    a softmax n counts the classes but the ignored one, which gets none of it; with a sigmoid n = 2.

    Frames are independent: nothing is assumed about time. Half precision is computed in float32.

    Args:
        settings: What the loss is.
        counts: ``(C,)`` training frames of each class; needed where classes are weighted.
        head: ``"softmax"`` where a frame has one class, ``"sigmoid"`` where it may have several.
        ignored: Index of the class whose frames carry no loss, or None. Its logit stays in the softmax.

    Attributes:
        absent: Indices of classes, other than the ignored one, that no training frame carries: nothing can be learnt of
            them. Empty without counts.

    Raises:
        ConfigError: If classes are weighted and ``counts`` is missing or all zero, or the head is unknown.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4.

    Example:
        >>> loss = FrameLoss(LossSettings(class_weights="balanced"), counts=[30, 10, 0])
        >>> total, count = loss(torch.zeros(3, 3), torch.tensor([0, 1, -100]))
        >>> round(total.item() / math.log(3), 4), count.item(), loss.absent
        (2.6667, 2, (2,))
    """

    def __init__(
        self,
        settings: LossSettings | None = None,
        *,
        counts: Sequence[int] | NDArray[Any] | None = None,
        head: Head = "softmax",
        ignored: int | None = None,
    ) -> None:
        self.settings = LossSettings() if settings is None else settings
        if head not in HEADS:
            raise ConfigError(f"head must be one of {', '.join(HEADS)}, got {head!r}")
        self.head, self.ignored = head, ignored
        self.absent: tuple[int, ...] = ()
        self._weights: Tensor | None = None
        if counts is not None:
            self.absent = tuple(index for index, count in enumerate(counts) if count == 0 and index != ignored)
        if self.settings.class_weights != "none":
            if counts is None:
                raise ConfigError(f"class_weights={self.settings.class_weights!r} needs the training frames per class")
            self._weights = torch.from_numpy(class_weights(counts, self.settings, ignored))

    def __call__(self, logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the sum of the loss and the number of frames that carry one.

        Args:
            logits: ``(..., C)``.
            labels: ``(...) int64`` class indices, ``NO_LOSS`` where a frame carries none (softmax alone); or
                ``(..., C) float``: shares of the classes (softmax), or multi-hot (sigmoid).
            mask: ``(...) bool``, true where a frame carries loss; None if all do that have a label.

        Returns:
            The sum, a scalar (zero, with zero gradients, if no frame carries loss), and the count, an int64 scalar.

        Raises:
            ShapeError: If logits, labels, mask and the counted classes do not fit each other or the head.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        self._check(logits, labels, mask)
        kept = self._carries_loss(labels, mask)
        weights = None if self._weights is None else self._weights.to(logits.device, logits.dtype)
        plain = self.settings.kind == "cross_entropy" and self.settings.label_smoothing == 0
        if labels.dtype == torch.int64:
            labels = labels.masked_fill(~kept, NO_LOSS)
            if plain:
                flat = logits.flatten(0, -2)
                total = F.cross_entropy(flat, labels.flatten(), weights, ignore_index=NO_LOSS, reduction="sum")
                return total, kept.sum()
            labels = F.one_hot(labels.masked_fill(~kept, 0), logits.shape[-1])
        labels = self._smooth(labels.to(logits.dtype))
        loss = self._softmax if self.head == "softmax" else self._sigmoid
        each = loss(logits, labels, weights)
        return each.sum(-1).masked_fill(~kept, 0).sum(), kept.sum()

    def _check(self, logits: Tensor, labels: Tensor, mask: Tensor | None) -> None:
        frames, classes = logits.shape[:-1], logits.shape[-1]
        if labels.dtype == torch.int64 and self.head == "sigmoid":
            raise ShapeError(
                "labels are class indices, but head='sigmoid' needs multi-hot labels (..., C): use softmax"
            )
        wanted = frames if labels.dtype == torch.int64 else logits.shape
        if labels.shape != wanted:
            raise ShapeError(
                f"logits {tuple(logits.shape)} need labels {tuple(frames)} int64 or {tuple(logits.shape)} float, "
                f"got {tuple(labels.shape)} {labels.dtype}"
            )
        if mask is not None and mask.shape != frames:
            raise ShapeError(f"logits {tuple(logits.shape)} need a mask {tuple(frames)}, got {tuple(mask.shape)}")
        if self._weights is not None and len(self._weights) != classes:
            raise ShapeError(f"frames of {len(self._weights)} classes were counted, but the logits have {classes}")

    def _carries_loss(self, labels: Tensor, mask: Tensor | None) -> Tensor:
        if labels.dtype == torch.int64:
            kept = labels != NO_LOSS
            if self.ignored is not None:
                kept = kept & (labels != self.ignored)
        elif self.ignored is not None:
            kept = labels[..., self.ignored] == 0
        else:
            kept = torch.ones(labels.shape[:-1], dtype=torch.bool, device=labels.device)
        return kept if mask is None else kept & mask

    def _smooth(self, labels: Tensor) -> Tensor:
        share = self.settings.label_smoothing
        if share == 0:
            return labels
        if self.head == "sigmoid":
            return labels * (1 - share) + share / 2
        spread = torch.ones(labels.shape[-1], dtype=labels.dtype, device=labels.device)
        if self.ignored is not None:
            spread[self.ignored] = 0
        return labels * (1 - share) + spread * (share / spread.sum())

    def _softmax(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Return ``(..., C)``: the loss of each class's share."""
        log_p = F.log_softmax(logits, -1)
        each = -labels * log_p if weights is None else -labels * log_p * weights
        return each if self.settings.kind == "cross_entropy" else each * self._focus(-torch.expm1(log_p))

    def _sigmoid(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Return ``(..., C)``: the binary cross-entropy of each class."""
        each = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="none")
        if self.settings.kind == "cross_entropy":
            return each
        return each * self._focus(labels * torch.sigmoid(-logits) + (1 - labels) * torch.sigmoid(logits))

    def _focus(self, missing: Tensor) -> Tensor:
        """Return the focal factor of answers that miss certainty by so much."""
        # Below 1, the slope of a power is infinite at zero, which an answer reaches by rounding.
        return missing.clamp(min=torch.finfo(missing.dtype).tiny) ** self.settings.focal_gamma
