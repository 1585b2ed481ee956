"""Batches of spans of like length: every frame once, little padding, and the same learning."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from coadtr.checkpoint import load
from coadtr.data import NO_LOSS, FeatureStore
from coadtr.models import build_model, preset
from coadtr.training import train
from coadtr.training.batches import GROUPED, RankBatches
from coadtr.training.datamodule import FeatureDataModule

from .conftest import MakeStore
from .test_run import MODEL, Kill, settings, weights


def lengths_of(size: int) -> list[int]:
    return torch.randint(1, 100, (size,), generator=torch.Generator().manual_seed(5)).tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 50, 2 * 2 * 3 * GROUPED + 5])
def test_every_sample_comes_once_and_processes_share_its_batch(size: int, ranks: int) -> None:
    lengths = lengths_of(size)
    alone = list(RankBatches(size, batch_size=2 * ranks, seed=3, epoch=1, lengths=lengths))
    assert sorted(sample for batch in alone for sample in batch) == list(range(size))
    parts = [
        list(RankBatches(size, batch_size=2, seed=3, epoch=1, rank=rank, ranks=ranks, lengths=lengths))
        for rank in range(ranks)
    ]
    for at, together in enumerate(alone):
        assert [sample for part in parts for sample in part[at] if sample >= 0] == together
    assert [len(part) for part in parts] == [len(alone)] * ranks
    assert len(alone) == len(RankBatches(size, batch_size=2 * ranks, seed=3, epoch=1))


def test_lengths_within_a_batch_are_alike_and_batches_come_in_any_order() -> None:
    lengths = lengths_of(64)

    def batches(epoch: int) -> list[list[int]]:
        return [
            [lengths[i] for i in batch] for batch in RankBatches(64, batch_size=8, seed=0, epoch=epoch, lengths=lengths)
        ]

    first = batches(0)
    # Sorted, the longest of a batch is at most the shortest of the batch above it.
    ordered = sorted(first, key=max, reverse=True)
    for above, below in pairwise(ordered):
        assert min(above) >= max(below)
    assert first != ordered
    assert first != batches(1)
    assert first == batches(0)


def loaded(store: FeatureStore, *, sampling: str = "sequences", **changes: Any) -> list[dict[str, Tensor]]:
    model = build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, window=8))
    wanted = settings(batch_size=4, sequence_length=50, **changes)
    data = FeatureDataModule(store, model=model, sequences=sampling == "sequences", settings=wanted)
    return list(data.train_dataloader())


def frames_with_loss(batches: list[dict[str, Tensor]]) -> list[tuple[int, int, int, float]]:
    """Return video, number, label and first feature of every frame with loss."""
    found = []
    for batch in batches:
        for row, at in (batch["labels"] != NO_LOSS).nonzero().tolist():
            number = int(batch["first_frame"][row]) + at
            found.append(
                (int(batch["video"][row]), number, int(batch["labels"][row, at]), float(batch["frames"][row, at, 0]))
            )
    return sorted(found)


def test_the_same_frames_carry_loss_in_less_padding(make_store: MakeStore) -> None:
    store = make_store(splits="tttttttvx")
    plain, grouped = loaded(store), loaded(store, group_by_length=True)
    assert frames_with_loss(grouped) == frames_with_loss(plain)
    assert len(frames_with_loss(grouped)) == 7 * 80
    taken, before = (
        sum(batch["frames"].shape[0] * batch["frames"].shape[1] for batch in way) for way in (grouped, plain)
    )
    assert taken < 0.85 * before
    for batch in grouped:
        assert batch["frames"].shape[:2] == batch["labels"].shape
        assert (batch["labels"][:, -1] != NO_LOSS).any()


def test_clips_are_of_one_length_and_stay_as_they_are(make_store: MakeStore) -> None:
    store = make_store()
    plain, grouped = (loaded(store, sampling="windows", group_by_length=flag) for flag in (False, True))
    assert len(plain) == len(grouped)
    for one, other in zip(plain, grouped, strict=True):
        assert torch.equal(one["frames"], other["frames"])


@pytest.mark.parametrize("flag", [False, True])
def test_every_frame_weighs_the_same_in_an_epoch(make_store: MakeStore, flag: bool) -> None:
    model = build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, window=8))
    wanted = settings(batch_size=4, sequence_length=50, group_by_length=flag)
    data = FeatureDataModule(make_store(splits="tttttttvx"), model=model, sequences=True, settings=wanted)
    frames = [int((batch["labels"] != NO_LOSS).sum()) for batch in data.train_dataloader()]
    weights_of = [data.batch_weight(count, len(frames)) for count in frames]
    if flag:
        expected = len(frames) / (7 * 80)
        assert [weight / count for weight, count in zip(weights_of, frames, strict=True)] == pytest.approx(
            [expected] * len(frames)
        )
    else:
        assert weights_of == [1.0] * len(frames)


PLAIN: dict[str, Any] = {"dropout": 0.0, "input_dropout": 0.0}


@pytest.mark.parametrize("model", [{**MODEL, **PLAIN}, {"kind": "grab", "embed_dim": 16, **PLAIN}], ids=["b1", "grab"])
@pytest.mark.parametrize("changes", [{"batch_size": 20}, {"batch_size": 2, "accumulate": 50}], ids=["one", "many"])
def test_where_a_step_takes_the_whole_epoch_nothing_else_is_learnt(
    make_store: MakeStore, tmp_path: Path, model: dict[str, Any], changes: dict[str, int]
) -> None:
    store, wanted = make_store(), {"max_epochs": 3, "learning_rate": 1e-3}
    plain = train(store, model, settings(**wanted, batch_size=20), tmp_path / "plain", progress=False)
    alike = settings(**wanted, **changes, group_by_length=True)
    grouped = weights(train(store, model, alike, tmp_path / "grouped", progress=False))
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(grouped[name], tensor, rtol=1e-4, atol=2e-5, msg=name)


def test_a_length_is_wanted_of_every_sample() -> None:
    with pytest.raises(ValueError, match="2 lengths for 3 samples"):
        RankBatches(3, batch_size=1, seed=0, epoch=0, lengths=[4, 5])


def test_a_killed_run_of_like_lengths_goes_on_exactly(make_store: MakeStore, tmp_path: Path) -> None:
    store, wanted = make_store(), settings(group_by_length=True)
    whole = train(store, MODEL, wanted, tmp_path / "whole", progress=False)
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, wanted, tmp_path / "killed", progress=False, callbacks=[Kill(2, 1)])
    resumed = train(store, MODEL, wanted, tmp_path / "killed", progress=False)
    assert (resumed.validation_map, resumed.epoch) == (whole.validation_map, whole.epoch)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    assert load(whole.checkpoint).origin["training"]["group_by_length"] is True
