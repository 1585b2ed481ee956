"""Training samples for torch: clips with one label, and spans of whole sequences with a label a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from coadtr.data.split_frames import DEFAULT_PRELOAD_BYTES, SplitFrames
from coadtr.data.targets import NO_LOSS, ahead_targets, frame_targets
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.data.storage.store import FeatureStore

__all__ = ["NO_LOSS", "ClipDataset", "SequenceDataset"]


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Every window of N frames, with the labels of its last frames.

    Windows whose last frame is of the ignored class are left out. OadTR and CoOadTR sample so too, but start
    each video at a random frame below N and drop its last 9 windows; here all are used, in every epoch. A
    video shorter than N gives none, unless ``shortest`` allows shorter clips.

    An item is a dict of ``frames`` ``(N, D)`` float32, ``first_frame`` (int64, index of the first frame in its
    video), and ``labels`` ``(k,)`` int64 of the last k frames, with -100 where there is no loss (ignored class);
    if labels are multi-hot, they are ``(k, C)`` float32 and ``mask`` ``(k,)`` bool says where there is loss. With
    ``ahead``, there are ``ahead_labels`` ``(k, K)`` (and ``ahead_mask``) of the K frames after each of the k that has
    loss itself. Clips shorter than N begin with frames of zeros, and their ``first_frame`` is negative: frame 0 is the
    video's first.

    Args:
        store: The feature store.
        split: ``'train'``, ``'validation'`` or ``'test'``.
        window: Frames N of a clip.
        learnt: Frames k at the clip's end that have labels.
        ahead: Frames K after each of these that have labels.
        shortest: Frames that a clip at the start of a video holds at least; None for N.
        heard: Frames of a video, its own included, that a frame with loss comes after.
        stride: Frames from one clip to the next.
        streams: Streams to join, in this order; none for all.
        preload: Whether to keep the features in memory.
        max_preload_bytes: Features that take more than this stay in the file.

    Raises:
        ConfigError: If ``window``, ``stride``, ``learnt``, ``shortest`` or ``heard`` is not positive, ``learnt`` or
            ``shortest`` is above the window, or ``ahead`` is negative.
        DataError: If the split holds no video, or none gives a clip.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from coadtr.data import FeatureStore, StoreWriter
        >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
        >>> with StoreWriter(path, class_names=["rest", "lift"], streams={"imu": 3}) as writer:
        ...     labels = [0, 0, 0, 1, 1, 0]
        ...     writer.add("a", split="train", rate_hz=5.0, features={"imu": np.ones((6, 3))}, labels=labels)
        >>> clips = ClipDataset(FeatureStore(path), "train", window=4)
        >>> len(clips), clips[0]["frames"].shape, clips[0]["labels"].tolist()
        (3, torch.Size([4, 3]), [1])
    """

    def __init__(
        self,
        store: FeatureStore,
        split: str,
        *,
        window: int,
        learnt: int = 1,
        ahead: int = 0,
        shortest: int | None = None,
        heard: int = 1,
        stride: int = 1,
        streams: Sequence[str] | None = None,
        preload: bool = True,
        max_preload_bytes: int = DEFAULT_PRELOAD_BYTES,
    ) -> None:
        shortest = window if shortest is None else shortest
        _check_positive(window=window, stride=stride, learnt=learnt, shortest=shortest, heard=heard)
        if ahead < 0 or max(learnt, shortest) > window:
            raise ConfigError(
                f"learnt={learnt}, shortest={shortest}, ahead={ahead}: the first two may not exceed the window of "
                f"{window} frames, and none may be negative"
            )
        self.window, self.learnt, self.ahead, self.shortest, self.stride = window, learnt, ahead, shortest, stride
        self.source = SplitFrames(store, split, streams=streams, preload=preload, max_preload_bytes=max_preload_bytes)
        videos = range(len(self.source.records))
        self._counted = tuple(self.source.counted(video, heard=heard) for video in videos)
        self._clips = self._cut(0)
        if not len(self._clips):
            longest = max(record.frames for record in self.source.records)
            raise DataError(
                f"{store.path}: split {split!r} has no clip of {max(shortest, heard)} frames to learn from "
                f"(its longest video has {longest}): use a smaller window or other data"
            )

    def set_epoch(self, epoch: int) -> None:
        """Take other clips, where the stride leaves some out: those of epoch e begin at frame e mod stride.

        Where none begins there, it is those of epoch 0 again.

        Args:
            epoch: Number of the epoch.
        """
        moved = self._cut(epoch % self.stride)
        self._clips = moved if len(moved) else self._cut(0)

    def _cut(self, offset: int) -> NDArray[np.int64]:
        """Return number of the video and last frame of every clip, ``(clips, 2)``."""
        clips = []
        for video, counted in enumerate(self._counted):
            last = np.arange(self.shortest - 1 + offset, len(counted), self.stride)
            last = last[counted[last]]
            clips.append(np.stack([np.full_like(last, video), last], axis=1))
        return np.concatenate(clips)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        video, last = (int(value) for value in self._clips[index])
        first = last + 1 - self.window
        frames = np.zeros((self.window, self.source.dim), np.float32)
        self.source.read(video, max(0, first), last + 1, frames[max(0, -first) :])
        at = np.arange(last + 1 - self.learnt, last + 1)
        item = {"frames": torch.from_numpy(frames), "first_frame": torch.tensor(first)}
        item |= frame_targets(self.source, video, at, self._counted[video])
        if self.ahead:
            item |= ahead_targets(self.source, video, at, self._counted[video], ahead=self.ahead)
        return item


class SequenceDataset(Dataset[dict[str, Tensor]]):
    """Spans of whole videos with a label a frame, each after the frames that its answers depend on.

    Every video is cut into spans of ``length`` frames that carry loss (the first and last may be shorter). A
    span comes with up to ``context`` frames before it, without loss. With ``context = receptive field - 1``,
    a model gives each frame with loss the answer that it gives in the whole video, and each frame carries
    loss once an epoch.

    An item is a dict of ``frames`` ``(L + context, D)`` float32, ``labels``, ``video`` (int64, its number) and
    ``first_frame`` (int64, index in the video of the first frame in the item). Items shorter than ``L + context``
    are padded with zeros at the end (unless ``every`` is true). Labels are ``(L + context,)`` int64 with -100 where
    there is no loss (context, ignored class, padding); if labels are multi-hot, they are ``(L + context, C)`` float32
    and ``mask`` ``(L + context,)`` bool says where there is loss. With ``ahead``, there are ``ahead_labels``
    ``(L + context, K)`` (and ``ahead_mask``) of the K frames after each frame with loss.

    Args:
        store: The feature store.
        split: ``'train'``, ``'validation'`` or ``'test'``.
        length: Frames L with loss in a span.
        context: Frames before a span that its answers depend on.
        ahead: Frames K after each frame that have labels.
        every: Whether spans without any frame with loss are kept, for models that go on from span to span.
        heard: Frames of a video, its own included, that a frame with loss comes after.
        streams: Streams to join, in this order; none for all.
        preload: Whether to keep the features in memory.
        max_preload_bytes: Features that take more than this stay in the file.
        seed: Seed of the cuts; see `set_epoch`.

    Raises:
        ConfigError: If ``length`` or ``heard`` is not positive, or ``context``, ``ahead`` or ``seed`` is negative.
        DataError: If the split holds no video, or only frames of the ignored class.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from coadtr.data import FeatureStore, StoreWriter
        >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
        >>> with StoreWriter(path, class_names=["rest", "lift"], streams={"imu": 3}) as writer:
        ...     labels = [0, 0, 0, 1, 1, 0]
        ...     writer.add("a", split="train", rate_hz=5.0, features={"imu": np.ones((6, 3))}, labels=labels)
        >>> spans = SequenceDataset(FeatureStore(path), "train", length=4, context=2)
        >>> [span["labels"].tolist() for span in spans]
        [[0, 0, 0, 1, -100, -100], [-100, -100, 1, 0, -100, -100]]
    """

    def __init__(
        self,
        store: FeatureStore,
        split: str,
        *,
        length: int,
        context: int,
        ahead: int = 0,
        every: bool = False,
        heard: int = 1,
        streams: Sequence[str] | None = None,
        preload: bool = True,
        max_preload_bytes: int = DEFAULT_PRELOAD_BYTES,
        seed: int = 0,
    ) -> None:
        _check_positive(length=length, heard=heard)
        if min(context, ahead, seed) < 0:
            raise ConfigError(f"context={context}, ahead={ahead}, seed={seed}: none may be negative")
        self.length, self.context, self.ahead, self.every, self.seed = length, context, ahead, every, seed
        self.source = SplitFrames(store, split, streams=streams, preload=preload, max_preload_bytes=max_preload_bytes)
        videos = range(len(self.source.records))
        self._counted = tuple(self.source.counted(video, heard=heard) for video in videos)
        self._spans = self._cut([0] * len(self._counted))
        if not any(counted.any() for counted in self._counted):
            if heard > 1:
                raise DataError(
                    f"{store.path}: split {split!r} has no frame to learn from that comes after {heard - 1} others: "
                    "learn from earlier ones, or use other data"
                )
            raise DataError(
                f"{store.path}: split {split!r} has only frames of the ignored class "
                f"{store.class_names[store.ignored or 0]!r}: nothing to learn from, use other data"
            )

    def set_epoch(self, epoch: int) -> None:
        """Cut the videos elsewhere, so that every epoch sees other spans.

        The cuts of each video move by an offset below ``length`` that depends on seed and epoch alone. The
        number of spans may change by one a video. Before the first call, spans start at frame 0. Call it
        before the ``DataLoader`` starts its workers (a loader with persistent workers keeps the cuts of its
        first epoch).

        Args:
            epoch: Number of the epoch.

        Raises:
            ConfigError: If ``epoch`` is negative.
        """
        if epoch < 0:
            raise ConfigError(f"epoch={epoch}: give 0 or a positive whole number")
        generator = np.random.default_rng([self.seed, epoch])
        self._spans = self._cut(generator.integers(0, self.length, len(self._counted)).tolist())

    def _cut(self, offsets: Sequence[int]) -> list[tuple[int, int, int]]:
        """Return ``(video, start, stop)`` of every span that holds a frame with loss, or of every span."""
        spans = []
        for video, (offset, counted) in enumerate(zip(offsets, self._counted, strict=True)):
            # The first span of a video ends at the offset; without one, at its full length.
            for end in range(offset or self.length, len(counted) + self.length, self.length):
                start, stop = max(0, end - self.length), min(end, len(counted))
                if start < stop and (self.every or counted[start:stop].any()):
                    spans.append((video, start, stop))
        return spans

    def video_of(self, index: int) -> int:
        """Return the number, in its split, of the video that a span is of."""
        return self._spans[index][0]

    @property
    def loss_frames(self) -> int:
        """Frames that carry loss in an epoch."""
        return int(sum(counted.sum() for counted in self._counted))

    def frames_of(self, index: int) -> int:
        """Return how many frames of its video a span comes with, the context included."""
        _, start, stop = self._spans[index]
        return stop - max(0, start - self.context)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        video, start, stop = self._spans[index]
        first = max(0, start - self.context)
        # What is taken in span by span has to end where its video does, not in padding.
        size = stop - first if self.every else self.length + self.context
        frames = np.empty((size, self.source.dim), np.float32)
        self.source.read(video, first, stop, frames[: stop - first])
        frames[stop - first :] = 0
        # Frames without a label of their own (context, padding) are asked for by an index outside the video.
        own = np.arange(first, first + size)
        own[: start - first] = own[stop - first :] = -1
        counted = self._counted[video]
        item = {"frames": torch.from_numpy(frames), "first_frame": torch.tensor(first), "video": torch.tensor(video)}
        item |= frame_targets(self.source, video, own, counted)
        if self.ahead:
            item |= ahead_targets(self.source, video, own, counted, ahead=self.ahead)
        return item


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}={value}: give a positive number of frames")
