"""Changed batches against loops over frames, and what they must not change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from coadtr.data import NO_LOSS
from coadtr.errors import ConfigError, ShapeError
from coadtr.training.augmentation import Augmentation, AugmentationSettings
from coadtr.training.speed import change_speed

CLASSES = 4
ALL: dict[str, Any] = {
    "noise": 0.1,
    "frame_dropout": 0.2,
    "time_mask": 3,
    "channel_dropout": 0.2,
    "mixup": 0.4,
    "speed": 0.3,
    "interference": 0.5,
    "splice": 0.5,
}


def make_batch(
    *, rows: int = 3, length: int = 12, learnt: int = 12, ahead: int = 3, multi_hot: bool = False, padding: int = 2
) -> dict[str, Tensor]:
    """Make spans of which the last frames are padding, or clips if fewer frames have labels than there are."""
    generator = torch.Generator().manual_seed(length * 100 + learnt)
    frames = torch.randn(rows, length, 5, generator=generator) * torch.tensor([1.0, 2, 3, 4, 5]) + 10
    batch = {"frames": frames, "first_frame": torch.arange(rows) * 7, "video": torch.arange(rows)}
    for name, shape in (("labels", (rows, learnt)), ("ahead_labels", (rows, learnt, ahead))):
        carries = torch.rand(shape, generator=generator) < 0.8
        if learnt == length:
            frames[:, length - padding :] = 0
            carries[:, length - padding :] = False
        index = torch.randint(CLASSES, shape, generator=generator)
        batch[name] = index.masked_fill(~carries, NO_LOSS)
        if multi_hot:
            batch[name] = torch.randint(2, (*shape, CLASSES), generator=generator).float() * carries.unsqueeze(-1)
            batch[name.replace("labels", "mask")] = carries
    return batch


def augment(batch: dict[str, Tensor], seed: int = 0, **settings: Any) -> dict[str, Tensor]:
    return Augmentation(AugmentationSettings(**settings), CLASSES)(batch, torch.Generator().manual_seed(seed))


def real_frames(batch: dict[str, Tensor]) -> Tensor:
    return batch["frames"].ne(0).any(-1)


def assert_equal(batch: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert batch.keys() == other.keys()
    for name, value in batch.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


def test_by_default_nothing_is_changed_and_no_number_drawn() -> None:
    batch, generator = make_batch(), torch.Generator().manual_seed(0)
    assert_equal(Augmentation(AugmentationSettings())(batch, generator), batch)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize("learnt", [1, 4, 12])
def test_numbers_come_from_the_generator_alone_and_inputs_stay(learnt: int, *, multi_hot: bool) -> None:
    batch = make_batch(learnt=learnt, multi_hot=multi_hot)
    before = {name: value.clone() for name, value in batch.items()}
    first = augment(batch, **ALL)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert_equal(augment(batch, **ALL), first)
    assert_equal(batch, before)
    assert not torch.equal(augment(batch, seed=1, **ALL)["frames"], first["frames"])
    assert first["frames"].shape == batch["frames"].shape
    assert first["labels"].shape == (3, learnt, CLASSES)
    assert first["mask"].shape == (3, learnt)
    assert first["ahead_labels"].shape == (3, learnt, 3, CLASSES)
    assert first["ahead_mask"].shape == (3, learnt, 3)


@pytest.mark.parametrize("name", ALL)
def test_each_setting_changes_frames_and_keeps_type_and_other_entries(name: str) -> None:
    batch = make_batch() | {"frames": make_batch()["frames"].bfloat16()}
    changed = augment(batch, **{name: ALL[name]})
    assert changed["frames"].dtype == torch.bfloat16
    assert not torch.equal(changed["frames"], batch["frames"])
    assert torch.equal(changed["video"], batch["video"])
    assert torch.equal(changed["first_frame"], batch["first_frame"])


@pytest.mark.parametrize("name", ["noise", "frame_dropout", "time_mask", "channel_dropout", "interference"])
def test_padding_and_labels_stay_under_noise_and_masks(name: str) -> None:
    batch = make_batch()
    changed = augment(batch, **{name: ALL[name]})
    assert_equal(changed | {"frames": batch["frames"]}, batch)
    assert not changed["frames"][~real_frames(batch)].any()


def test_noise_is_in_units_of_each_channels_deviation_over_the_real_frames() -> None:
    batch = make_batch(rows=40, length=200, learnt=200, padding=50)
    real = real_frames(batch)
    added = (augment(batch, noise=0.3)["frames"] - batch["frames"])[real]
    deviation = batch["frames"][real].std(0, correction=0)
    torch.testing.assert_close(added.std(0), 0.3 * deviation, rtol=0.05, atol=0)
    assert (added.mean(0).abs() < 0.03 * deviation).all()


def test_what_is_masked_takes_the_mean_over_the_real_frames() -> None:
    batch = make_batch(rows=20, length=50, learnt=50)
    real = real_frames(batch)
    mean = batch["frames"][real].mean(0)
    for name in ("frame_dropout", "channel_dropout"):
        values: dict[str, Any] = {name: 0.3}
        changed = augment(batch, **values)["frames"]
        masked = changed != batch["frames"]
        torch.testing.assert_close(changed[masked], mean.expand_as(changed)[masked])
        assert masked[real].float().mean().item() == pytest.approx(0.3, abs=0.1)
        dropped = masked if name == "frame_dropout" else masked[:, :40].transpose(1, 2)
        assert (dropped.all(-1) | ~dropped.any(-1)).all()


@pytest.mark.parametrize("longest", [1, 4, 100])
def test_one_run_of_frames_is_masked_in_each_row(longest: int) -> None:
    batch = make_batch(rows=300, length=10, learnt=1)
    masked = (augment(batch, time_mask=longest)["frames"] != batch["frames"]).all(-1).int()
    runs = masked.sum(-1)
    begins = (masked.diff(dim=-1, prepend=torch.zeros(300, 1)) == 1).sum(-1)
    assert (begins == (runs > 0)).all()
    assert set(runs.tolist()) == set(range(min(longest, 10) + 1))


def test_interference_mixes_runs_with_as_many_frames_of_another_row() -> None:
    rows, length = 20, 400
    # A frame says where it is from: row, time, and 1, so that shares and sources can be solved for.
    row, time = torch.meshgrid(torch.arange(rows).double(), torch.arange(length).double(), indexing="ij")
    frames = torch.stack([row * 1000, time, torch.ones_like(row), row * time, time.square()], -1) + 1
    batch = {"frames": frames, "labels": torch.zeros(rows, length).long()}
    changed = augment(batch, interference=0.4, interference_frames=20)["frames"]
    mixed = (changed != frames).any(-1)
    assert mixed.double().mean().item() == pytest.approx(0.4, abs=0.05)
    begins = mixed[:, 1:] & ~mixed[:, :-1]
    # Runs of 20 frames, and after a mixed run another follows in 4 of 10 cases.
    assert mixed.sum().item() / begins.sum().item() == pytest.approx(20 / 0.6, rel=0.25)
    sources = 0
    for at_row, at_time in mixed.nonzero()[::37].tolist():
        own, got = frames[at_row, at_time], changed[at_row, at_time]
        shares = (got - own).unsqueeze(0) @ (frames - own).transpose(-1, -2)  # (rows, 1, length)
        share = shares.squeeze(1) / (frames - own).square().sum(-1).clamp(min=1e-9)
        fits = torch.isclose(own + share.unsqueeze(-1) * (frames - own), got, rtol=1e-6, atol=1e-3).all(-1)
        fits &= (share > 0) & (share <= 1)
        fits[at_row] = False
        sources += bool(fits.any())
    assert sources == len(mixed.nonzero()[::37])


def slow_splice(batch: dict[str, Tensor], source: Tensor) -> dict[str, Tensor]:
    """Look up every frame and label one by one."""
    out = {name: value.clone() for name, value in batch.items()}
    rows, length = source.shape
    learnt = batch["labels"].shape[1]
    for row, time in np.ndindex(rows, length):
        other, own = int(source[row, time]), time - (length - learnt)
        out["frames"][row, time] = batch["frames"][other, time]
        if own < 0:
            continue
        for name in ("labels", "mask", "ahead_labels", "ahead_mask"):
            if name in batch:
                out[name][row, own] = batch[name][other, own]
        for ahead in range(batch["ahead_labels"].shape[2]):
            if (source[row, time : time + ahead + 2] != other).any():
                if batch["ahead_labels"].ndim == 3:
                    out["ahead_labels"][row, own, ahead] = NO_LOSS
                if "ahead_mask" in batch:
                    out["ahead_mask"][row, own, ahead] = False
    return out


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize("learnt", [1, 4, 40])
def test_splice_against_a_loop_over_frames(learnt: int, *, multi_hot: bool) -> None:
    batch = make_batch(rows=4, length=40, learnt=learnt, multi_hot=multi_hot, padding=0)
    batch["frames"][..., 0] = torch.arange(4.0).unsqueeze(1)  # so that a frame says whose it is
    changed = augment(batch, splice=0.5, splice_frames=6)
    source = changed["frames"][..., 0].long()
    assert 0.2 < (source != torch.arange(4).unsqueeze(1)).float().mean() < 0.8
    assert_equal(changed, slow_splice(batch, source))


def recordings_of(lengths: tuple[int, ...], *, clips: bool) -> dict[str, Tensor]:
    """Make recordings of class 0, 1, ..., whose frames say which they are of: as spans, or as clips."""
    longest = max(lengths)
    frames, labels = torch.zeros(len(lengths), longest, 1), torch.full((len(lengths), longest), NO_LOSS)
    for row, length in enumerate(lengths):
        there = slice(longest - length, longest) if clips else slice(length)
        frames[row, there], labels[row, there] = row + 1.0, row
    first = torch.tensor([length - longest if clips else 0 for length in lengths])
    return {"frames": frames, "labels": labels[:, -1:] if clips else labels, "first_frame": first}


@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("how", [{"splice": 0.6, "splice_frames": 3.0}, {"mixup": 0.7}])
def test_frames_that_a_shorter_recording_has_not_take_no_part(how: dict[str, float], *, clips: bool) -> None:
    batch = recordings_of((9, 4, 6, 2), clips=clips)
    real, changes = real_frames(batch), 0
    for seed in range(8):
        changed = augment(batch, seed, **how)
        assert changed["frames"][real].min() >= 1, "no frame comes to be less than the quietest"
        if "splice" in how:
            own = changed["labels"] != NO_LOSS
            said = changed["frames"][:, -1:, 0] if clips else changed["frames"][..., 0]
            assert torch.equal(changed["labels"][own], said[own].long() - 1)
        changes += int((changed["frames"] != batch["frames"])[real].sum())
    assert changes > 20


def test_a_single_row_is_not_spliced() -> None:
    batch = make_batch(rows=1)
    assert_equal(augment(batch, splice=0.9, splice_frames=3), batch)


def test_a_single_row_is_mixed_with_another_time_of_its_own() -> None:
    frames = torch.arange(1.0, 301).view(1, 300, 1)
    batch = {"frames": frames, "labels": torch.zeros(1, 300).long()}
    changed = augment(batch, interference=0.9, interference_frames=10)["frames"]
    assert (changed != frames).float().mean() > 0.6
    assert changed.min() >= 1
    assert changed.max() <= 300


@pytest.mark.parametrize("multi_hot", [False, True])
def test_mixup_against_a_loop_over_rows(*, multi_hot: bool) -> None:
    batch = make_batch(rows=5, multi_hot=multi_hot)
    changed = augment(batch, mixup=0.7)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(5, generator=generator).tolist()
    shares = np.random.default_rng(int(torch.randint(2**62, (), generator=generator))).beta(0.7, 0.7, 5)
    frames = batch["frames"].numpy()
    for row, (other, share) in enumerate(zip(order, shares, strict=True)):
        mixed = share * frames[row] + (1 - share) * frames[other]
        np.testing.assert_allclose(changed["frames"][row].numpy(), mixed, rtol=1e-5, atol=1e-6)
        for name, mask_name in (("labels", "mask"), ("ahead_labels", "ahead_mask")):
            hot, carries = as_shares(batch, name, mask_name)
            both = carries[row] & carries[other]
            np.testing.assert_array_equal(changed[mask_name][row].numpy(), both)
            blend = share * hot[row] + (1 - share) * hot[other]
            np.testing.assert_allclose(changed[name][row].numpy()[both], blend[both], rtol=1e-5)


def as_shares(batch: dict[str, Tensor], name: str, mask_name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    labels = batch[name].numpy()
    if mask_name in batch:
        return labels, batch[mask_name].numpy()
    return np.eye(CLASSES)[np.where(labels == NO_LOSS, 0, labels)], labels != NO_LOSS


def test_mixed_class_indices_are_shares_that_sum_to_one() -> None:
    changed = augment(make_batch(), mixup=0.4)
    for name, mask_name in (("labels", "mask"), ("ahead_labels", "ahead_mask")):
        sums = changed[name].sum(-1)[changed[mask_name]]
        torch.testing.assert_close(sums, torch.ones_like(sums))


def slow_speed(batch: dict[str, Tensor], factor: list[float]) -> dict[str, NDArray[Any]]:
    """Look up every frame and label one by one; a label is known by its old frame, whoever holds it."""
    frames, labels, ahead = (batch[name].numpy() for name in ("frames", "labels", "ahead_labels"))
    rows, length, _ = frames.shape
    learnt, most = ahead.shape[1:3]
    out = {
        "frames": np.zeros_like(frames),
        "labels": np.full_like(labels, NO_LOSS),
        "ahead": np.full_like(ahead, NO_LOSS),
    }
    for row, time in np.ndindex(rows, length):
        speed, at = factor[row], length - learnt
        old = time * speed if learnt == length else length - 1 - (length - 1 - time) * speed
        near = math.floor(old + 0.5)
        if near >= length:
            continue
        held = min(max(old, 0), length - 1)
        left = math.floor(held)
        right = left + 1 if left + 1 < length and frames[row, left + 1].any() else left
        out["frames"][row, time] = frames[row, left] + (held - left) * (frames[row, right] - frames[row, left])
        if time < at or near < at:
            continue
        out["labels"][row, time - at] = labels[row, near - at]
        known = [labels[row, near - at], *ahead[row, near - at]]
        for step in range(1, most + 1):
            after = math.floor(old + step * speed + 0.5) - near
            out["ahead"][row, time - at, step - 1] = known[after] if after <= most else NO_LOSS
    return out


@pytest.mark.parametrize("learnt", [1, 4, 12])
def test_another_speed_against_a_loop_over_frames(learnt: int) -> None:
    batch = make_batch(rows=5, learnt=learnt)
    factor = [0.55, 0.9, 1.0, 1.3, 1.8]
    changed, slow = change_speed(batch, torch.tensor(factor, dtype=torch.float64)), slow_speed(batch, factor)
    np.testing.assert_allclose(changed["frames"].numpy(), slow["frames"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(changed["labels"].numpy(), slow["labels"])
    np.testing.assert_array_equal(changed["ahead_labels"].numpy(), slow["ahead"])
    assert torch.equal(changed["first_frame"], batch["first_frame"])


@pytest.mark.parametrize("learnt", [1, 4, 12])
def test_multi_hot_labels_go_at_the_speed_of_indices(learnt: int) -> None:
    batch, factor = make_batch(rows=4, learnt=learnt), torch.tensor([0.6, 0.95, 1.2, 1.7])
    hot = dict(batch)
    for name, mask_name in (("labels", "mask"), ("ahead_labels", "ahead_mask")):
        shares, carries = as_shares(batch, name, mask_name)
        hot[name], hot[mask_name] = torch.from_numpy(shares * carries[..., None]), torch.from_numpy(carries)
    changed, multi = change_speed(batch, factor), change_speed(hot, factor)
    for name, mask_name in (("labels", "mask"), ("ahead_labels", "ahead_mask")):
        shares, carries = as_shares(changed, name, mask_name)
        np.testing.assert_array_equal(multi[mask_name].numpy(), carries)
        np.testing.assert_array_equal(multi[name].numpy(), shares * carries[..., None])


@pytest.mark.parametrize("learnt", [1, 4, 12])
def test_speed_one_changes_nothing(learnt: int) -> None:
    batch = make_batch(learnt=learnt)
    early = batch | {"first_frame": batch["first_frame"] - (5 if learnt < 12 else 0)}
    early["frames"] = early["frames"].masked_fill(
        (torch.arange(12) < -early["first_frame"].unsqueeze(1)).unsqueeze(2), 0
    )
    changed = change_speed(early, torch.ones(3))
    assert_equal(changed, early)


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.0, 1.4, 1.9])
@pytest.mark.parametrize("start", [-1, -5, -11])
@pytest.mark.parametrize("learnt", [1, 4, 12])
def test_a_clip_that_begins_before_its_video_says_where_the_video_begins(
    factor: float, start: int, learnt: int
) -> None:
    frames = torch.arange(start, 12 + start).float().view(1, 12, 1).expand(1, 12, 2).clamp(min=-1) + 1
    labels = torch.full((1, 12), 2).masked_fill(torch.arange(start, 12 + start) < 0, NO_LOSS)[:, 12 - learnt :]
    batch = {"frames": frames, "labels": labels, "first_frame": torch.tensor([start])}
    changed = change_speed(batch, torch.tensor([factor]))
    begin = -int(changed["first_frame"])
    assert begin == pytest.approx(11 - (11 + start) / factor, abs=0.5)
    real = real_frames(changed)[0]
    assert not real[: max(0, begin)].any()
    assert real[max(0, begin) :].all()
    assert torch.equal(changed["frames"][0, -1], frames[0, -1])
    carries = torch.nn.functional.pad(changed["labels"][0] != NO_LOSS, (12 - learnt, 0))
    assert carries[-1]
    assert not (carries & ~real).any()


def test_speeds_lie_within_the_setting() -> None:
    frames = torch.arange(1.0, 101).view(1, 100, 1).expand(400, 100, 1)
    batch = {"frames": frames, "labels": torch.zeros(400, 100).long(), "first_frame": torch.zeros(400).long()}
    speeds = augment(batch, speed=0.2)["frames"][:, 1, 0] - 1
    assert speeds.min().item() == pytest.approx(0.8, abs=0.01)
    assert speeds.max().item() == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"noise": -0.1}, r"noise must be finite and not negative, got -0\.1"),
        ({"mixup": math.inf}, "mixup must be finite and not negative, got inf"),
        ({"frame_dropout": 1.0}, r"frame_dropout must be at least 0 and below 1, got 1\.0"),
        ({"channel_dropout": math.nan}, "channel_dropout must be at least 0 and below 1, got nan"),
        ({"interference": 1.0}, r"interference must be at least 0 and below 1, got 1\.0"),
        ({"interference_frames": 0.5}, r"interference_frames must be a number from 1, got 0\.5"),
        ({"splice_frames": math.inf}, "splice_frames must be a number from 1, got inf"),
        ({"speed": 1.5}, r"speed must be at least 0 and below 1, got 1\.5"),
        ({"time_mask": 2.5}, r"time_mask must be a whole number of at least 0, got 2\.5"),
        ({"noise": "1"}, "noise must be a number, got '1'"),
    ],
)
def test_bad_settings_are_named(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        AugmentationSettings(**values)


def test_bad_arguments_are_named() -> None:
    batch, generator = make_batch(), torch.Generator()
    with pytest.raises(ConfigError, match=r"mixup=0\.2 needs the number of classes: give classes"):
        Augmentation(AugmentationSettings(mixup=0.2))
    plain = Augmentation(AugmentationSettings())
    with pytest.raises(ShapeError, match=r"frames \(B, T, D\) need labels of B rows, got \(3, 12, 5\), \(2, 12\)"):
        plain(batch | {"labels": batch["labels"][:2]}, generator)
    with pytest.raises(ShapeError, match="5 frames need labels of 1 to as many frames, got 12"):
        plain(batch | {"frames": batch["frames"][:, :5]}, generator)
