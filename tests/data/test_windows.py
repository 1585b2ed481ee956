"""Training samples equal direct reads: every clip, every span, in this process and in workers."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from coadtr.data import (
    NO_LOSS,
    ClipDataset,
    FeatureStore,
    SequenceDataset,
    StoreWriter,
    class_counts,
    feature_statistics,
)
from coadtr.errors import ConfigError, DataError
from tests.forking import FORKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Python 3.12 and later warn of any fork in a process with threads; torch always has some.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def _expected_clips(store: FeatureStore, window: int) -> list[tuple[Any, int, int]]:
    clips = []
    for video in store.videos("train"):
        features, labels = store.features(video.name), store.labels(video.name)
        clips += [
            (features[last + 1 - window : last + 1], int(labels[last]), last + 1 - window)
            for last in range(window - 1, video.frames)
            if labels[last] != store.ignored
        ]
    return clips


@pytest.mark.parametrize("preload", [True, False])
def test_clips_are_all_full_windows_that_end_on_a_counted_frame(store: FeatureStore, *, preload: bool) -> None:
    clips, expected = ClipDataset(store, "train", window=8, preload=preload), _expected_clips(store, 8)
    assert clips.source.preloaded == preload
    assert len(clips) == len(expected) < 25 + 12 - 2 * 7
    for index, (frames, label, first) in enumerate(expected):
        item = clips[index]
        np.testing.assert_array_equal(item["frames"].numpy(), frames)
        assert (item["frames"].dtype, item["labels"].dtype) == (torch.float32, torch.int64)
        assert (item["labels"].item(), item["first_frame"].item()) == (label, first)


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_training_data_that_are_not_finite_are_named(store: FeatureStore, value: float, *, preload: bool) -> None:
    store.close()
    with h5py.File(store.path, "r+") as file:
        file["videos/a/flow"][9, 1] = file["videos/a/flow"][17, 0] = value

    def read_all() -> None:
        source = ClipDataset(FeatureStore(store.path), "train", window=4, preload=preload).source
        assert not preload, "preloading has read it all"
        source.read(0, 0, 9)
        source.read(0, 5, 25)

    with pytest.raises(DataError, match=rf"video 'a': .*value {value} at frame 9, channel 7") as error:
        read_all()
    assert str(error.value).startswith(f"{store.path}: ")


def test_clips_with_stride_streams_and_multi_hot_labels(
    tmp_path: Path, make_store: Callable[..., FeatureStore]
) -> None:
    store = make_store(tmp_path / "hot.h5", multi_hot=True)
    clips = ClipDataset(store, "test", window=4, stride=3, streams=["flow"])
    labels = store.labels("d")
    kept = [last for last in range(3, 31, 3) if labels[last, 3] == 0]
    assert len(clips) == len(kept)
    for index, last in enumerate(kept):
        np.testing.assert_array_equal(clips[index]["frames"], store.features("d", last - 3, last + 1, ["flow"]))
        np.testing.assert_array_equal(clips[index]["labels"][0], labels[last].astype(np.float32))


def test_the_clips_of_an_epoch_do_not_depend_on_the_epochs_before(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s.h5", class_names=["x", "y"], streams={"f": 1}) as writer:
        writer.add("v", split="train", rate_hz=1, features={"f": np.arange(5.0)[:, None]}, labels=[0, 1, 0, 1, 0])
    with FeatureStore(tmp_path / "s.h5") as store:
        gone_on = ClipDataset(store, "train", window=4, stride=4)
        for epoch, first in enumerate([0, 1, 0, 0, 0, 1]):  # the second and third shift leave no clip
            gone_on.set_epoch(epoch)
            fresh = ClipDataset(store, "train", window=4, stride=4)
            fresh.set_epoch(epoch)
            assert [int(clip["first_frame"]) for clip in (gone_on[0], fresh[0])] == [first, first]


@pytest.mark.parametrize("multi_hot", [False, True], ids=["one_hot", "multi_hot"])
def test_frames_ahead_are_learnt_after_frames_with_loss_alone_in_clips_and_spans(
    tmp_path: Path, make_store: Callable[..., FeatureStore], *, multi_hot: bool
) -> None:
    store = make_store(tmp_path / "ahead.h5", multi_hot=multi_hot)
    labels = store.labels("d")
    counted = labels[:, 3] == 0 if multi_hot else labels != 3

    def expected(frame: int) -> list[bool]:
        """Tell which of the three frames ahead carry loss."""
        own = 0 <= frame < len(counted) and counted[frame]
        return [bool(own and at < len(counted) and counted[at]) for at in range(frame + 1, frame + 4)]

    def carries(item: dict[str, torch.Tensor]) -> list[list[bool]]:
        found: list[list[bool]] = (item["ahead_mask"] if multi_hot else item["ahead_labels"] != NO_LOSS).tolist()
        return found

    clips = ClipDataset(store, "test", window=8, learnt=5, ahead=3, shortest=2)
    starts = [int(clips[index]["first_frame"]) for index in range(len(clips))]
    assert min(starts) + 8 - 5 < 0
    assert not counted.all()
    for index, first in enumerate(starts):
        assert carries(clips[index]) == [expected(frame) for frame in range(first + 3, first + 8)]
    spans = SequenceDataset(store, "test", length=40, context=0, ahead=3)
    assert carries(spans[0])[: len(counted)] == [expected(frame) for frame in range(len(counted))]


def test_items_do_not_share_memory_with_the_data(store: FeatureStore) -> None:
    clips = ClipDataset(store, "train", window=4, streams=["flow"])
    before = clips[0]["frames"].clone()
    clips[0]["frames"].zero_()
    torch.testing.assert_close(clips[0]["frames"], before, rtol=0, atol=0)


@pytest.mark.parametrize("epoch", [None, 0, 1, 2, 3])
@pytest.mark.parametrize(("length", "context"), [(6, 0), (6, 4), (10, 30), (1, 2), (100, 5)])
def test_every_counted_frame_carries_loss_once_an_epoch(
    store: FeatureStore, length: int, context: int, epoch: int | None
) -> None:
    spans = SequenceDataset(store, "train", length=length, context=context)
    if epoch is not None:
        spans.set_epoch(epoch)
    joined = {video.name: store.features(video.name) for video in store.videos("train")}
    seen: list[tuple[int, int]] = []
    for index in range(len(spans)):
        item = spans[index]
        frames, labels, first = item["frames"].numpy(), item["labels"].numpy(), int(item["first_frame"])
        assert frames.shape == (length + context, 9)
        assert labels.shape == (length + context,)
        video = next(at for at, whole in enumerate(joined.values()) if (whole[first] == frames[0]).all())
        name = list(joined)[video]
        inside = min(len(joined[name]) - first, length + context)
        counted = np.flatnonzero(labels != NO_LOSS)
        assert counted[-1] < inside
        used = int(counted[-1]) + 1
        np.testing.assert_array_equal(frames[:used], joined[name][first : first + used])
        np.testing.assert_array_equal(labels[counted], store.labels(name)[first + counted])
        # Enough frames come before the first one with loss, or the video starts there.
        assert first == 0 or counted[0] >= context
        seen += [(video, int(first + at)) for at in counted]
    wanted = [
        (at, int(frame))
        for at, video in enumerate(store.videos("train"))
        for frame in np.flatnonzero(store.labels(video.name) != 3)
    ]
    assert sorted(seen) == wanted


def test_padding_is_zero_and_at_the_end(store: FeatureStore) -> None:
    item = SequenceDataset(store, "validation", length=10, context=5)[0]
    np.testing.assert_array_equal(item["frames"][:7], store.features("c"))
    assert not item["frames"][7:].any()
    assert (item["labels"][7:] == NO_LOSS).all()
    assert item["first_frame"] == 0


def test_cuts_move_with_the_epoch_and_repeat_with_the_seed(store: FeatureStore) -> None:
    def cuts(seed: int, epoch: int) -> list[int]:
        spans = SequenceDataset(store, "test", length=8, context=0, seed=seed)
        spans.set_epoch(epoch)
        return [int(span["first_frame"]) for span in (spans[index] for index in range(len(spans)))]

    assert cuts(0, 1) == cuts(0, 1)
    assert len({tuple(cuts(0, epoch)) for epoch in range(12)}) > 4
    assert [cuts(0, epoch) for epoch in range(4)] != [cuts(1, epoch) for epoch in range(4)]


def test_multi_hot_spans_have_a_mask(tmp_path: Path, make_store: Callable[..., FeatureStore]) -> None:
    store = make_store(tmp_path / "hot.h5", multi_hot=True)
    labels = store.labels("d")
    for item in (SequenceDataset(store, "test", length=12, context=3)[index] for index in range(3)):
        mask, first = item["mask"].numpy(), int(item["first_frame"])
        at = first + np.flatnonzero(mask)
        np.testing.assert_array_equal(item["labels"].numpy()[mask], labels[at].astype(np.float32))
        assert (labels[at, 3] == 0).all()
        assert not item["labels"].numpy()[~mask].any()


def test_features_that_do_not_fit_stay_in_the_file(store: FeatureStore) -> None:
    bytes_needed = (25 + 12) * 9 * 4
    assert ClipDataset(store, "train", window=4, max_preload_bytes=bytes_needed).source.preloaded
    assert not ClipDataset(store, "train", window=4, max_preload_bytes=bytes_needed - 1).source.preloaded
    half = ClipDataset(store, "train", window=4, streams=["rgb"], max_preload_bytes=(25 + 12) * 6 * 2)
    assert half.source.preloaded
    np.testing.assert_array_equal(half[0]["frames"], store.features("a", 0, 4, ["rgb"])[: len(half[0]["frames"])])


def test_pickled_copy_reads_from_the_file(store: FeatureStore) -> None:
    clips = ClipDataset(store, "train", window=4)
    copy = pickle.loads(pickle.dumps(clips))
    assert not copy.source.preloaded
    torch.testing.assert_close(copy[3], clips[3], rtol=0, atol=0)


@forks
@pytest.mark.parametrize("preload", [True, False])
def test_forked_workers_equal_direct_reads(store: FeatureStore, *, preload: bool) -> None:
    store.features("a")  # the parent has the file open when it forks
    clips = ClipDataset(store, "train", window=8, preload=preload)
    loader = DataLoader(clips, batch_size=5, num_workers=2, multiprocessing_context="fork")
    _equal_to_direct_reads(loader, clips)
    np.testing.assert_array_equal(store.features("a", 3, 5), store.features("a")[3:5])


@forks
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere HDF5 reads everything")
def test_what_forked_workers_verified_is_known_to_all(store: FeatureStore) -> None:
    clips = ClipDataset(store, "train", window=4, preload=False)
    assert not store.known_finite("a", 0, 25, ["rgb", "flow"])
    for _ in DataLoader(clips, batch_size=5, num_workers=2, multiprocessing_context="fork"):
        pass
    assert store.known_finite("a", 0, 25, ["rgb", "flow"])
    assert store.known_finite("b", 0, 12, ["rgb", "flow"])


def test_workers_that_inherit_nothing_equal_direct_reads(store: FeatureStore) -> None:
    spans = SequenceDataset(store, "train", length=6, context=4, preload=False)
    spans.set_epoch(2)
    loader = DataLoader(spans, batch_size=2, num_workers=2, multiprocessing_context=FORKS)
    _equal_to_direct_reads(loader, spans)


def _equal_to_direct_reads(loader: DataLoader[Any], dataset: Any) -> None:
    batches = list(loader)
    for key in dataset[0]:
        together = torch.cat([batch[key] for batch in batches])
        torch.testing.assert_close(
            together, torch.stack([dataset[index][key] for index in range(len(dataset))]), rtol=0, atol=0
        )


def test_statistics_equal_those_of_all_frames_at_once(store: FeatureStore) -> None:
    frames = np.concatenate([store.features("a"), store.features("b")]).astype(np.float64)
    mean, std = feature_statistics(store, "train")
    assert mean.dtype == std.dtype == np.dtype(np.float32)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(feature_statistics(store, "train", ["flow", "rgb"])[0], np.roll(mean, 3))


def test_statistics_are_stable_and_floored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = np.stack([1e4 + rng.standard_normal(900) * 0.1, np.full(900, 7.0), rng.standard_normal(900)], axis=1)
    with StoreWriter(tmp_path / "s.h5", class_names=["x", "y"], streams={"f": 3, "still": 2}) as writer:
        for index in range(3):
            part = base[index * 300 : index * 300 + 300].astype(np.float32)
            features = {"f": part, "still": np.full((300, 2), 3, "f4")}
            writer.add(f"v{index}", split="train", rate_hz=1, features=features, labels=np.zeros(300, int))
    store = FeatureStore(tmp_path / "s.h5")
    mean, std = feature_statistics(store, "train", ["f"])
    np.testing.assert_allclose(std[[0, 2]], base.astype(np.float32).astype(np.float64).std(axis=0)[[0, 2]], rtol=1e-6)
    assert (mean[1], 0 < std[1] < 1e-2) == (7.0, True)
    np.testing.assert_array_equal(feature_statistics(store, "train", ["still"])[1], [1.0, 1.0])


def test_class_counts(tmp_path: Path, store: FeatureStore, make_store: Callable[..., FeatureStore]) -> None:
    labels = np.concatenate([store.labels("a"), store.labels("b")])
    assert class_counts(store, "train").tolist() == [(labels == index).sum() for index in range(4)]
    assert class_counts(store).sum() == 25 + 12 + 7 + 31
    hot = make_store(tmp_path / "hot.h5", multi_hot=True)
    assert class_counts(hot, "test").tolist() == hot.labels("d").sum(axis=0).tolist()


def test_class_counts_of_frames_with_loss_leave_the_ignored_class_out(
    tmp_path: Path, store: FeatureStore, make_store: Callable[..., FeatureStore]
) -> None:
    hot = make_store(tmp_path / "hot.h5", multi_hot=True)
    for each in (store, hot):
        spans = SequenceDataset(each, "train", length=10, context=3)
        counted = np.zeros(4, np.int64)
        for number in range(len(spans)):
            labels = spans[number]["labels"]
            counted += [
                int((labels == index).sum() if labels.ndim == 1 else labels[:, index].sum()) for index in range(4)
            ]
        assert class_counts(each, "train", with_loss=True).tolist() == counted.tolist()
        assert counted[3] == 0 < class_counts(each, "train")[3]


def test_settings_and_splits_that_cannot_work(tmp_path: Path, store: FeatureStore) -> None:
    with pytest.raises(ConfigError, match="window=0: give a positive number of frames"):
        ClipDataset(store, "train", window=0)
    with pytest.raises(ConfigError, match="context=-1"):
        SequenceDataset(store, "train", length=3, context=-1)
    with pytest.raises(ConfigError, match="max_preload_bytes=-1"):
        ClipDataset(store, "train", window=2, max_preload_bytes=-1)
    with pytest.raises(ConfigError, match="epoch=-1"):
        SequenceDataset(store, "train", length=3, context=0).set_epoch(-1)
    with pytest.raises(DataError, match=r"has no clip of 64 frames to learn from \(its longest video has 25\)"):
        ClipDataset(store, "train", window=64)
    with pytest.raises(DataError, match="unknown stream 'audio'"):
        ClipDataset(store, "train", window=2, streams=["audio"])
    with pytest.raises(DataError, match="split 'tset' holds no video: it has 'train', 'validation', 'test'"):
        SequenceDataset(store, "tset", length=3, context=0)
    with StoreWriter(tmp_path / "i.h5", class_names=["x", "skip"], ignored=1, streams={"f": 1}) as writer:
        writer.add("v", split="train", rate_hz=1, features={"f": np.zeros((9, 1))}, labels=[1] * 9)
    with pytest.raises(DataError, match="has only frames of the ignored class 'skip'"):
        SequenceDataset(FeatureStore(tmp_path / "i.h5"), "train", length=3, context=0)
    with pytest.raises(DataError, match="has no clip of 2 frames"):
        ClipDataset(FeatureStore(tmp_path / "i.h5"), "train", window=2)
