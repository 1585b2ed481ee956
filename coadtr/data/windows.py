"""Training samples for torch: clips with one label, and spans of whole sequences with a label a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from coadtr.data.split_frames import DEFAULT_PRELOAD_BYTES, SplitFrames
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.data.storage.store import FeatureStore

__all__ = ["NO_LOSS", "ClipDataset", "SequenceDataset"]

NO_LOSS: Final = -100
"""Label of frames without loss: what ``torch.nn.functional.cross_entropy`` leaves out by default."""


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Every full window of N frames, with the label of its last frame.

    Windows whose last frame is of the ignored class are left out. OadTR and CoOadTR sample so too, but start
    each video at a random frame below N and drop its last 9 windows; here all are used, in every epoch. A
    video shorter than N gives none.

    An item is a dict of ``frames`` ``(N, D)`` float32, ``label`` (int64 scalar, or ``(C,)`` float32 if labels
    are multi-hot) and ``first_frame`` (int64, index of the first frame in its video).

    Args:
        store: The feature store.
        split: ``'train'``, ``'validation'`` or ``'test'``.
        window: Frames N of a clip.
        stride: Frames from one clip to the next.
        streams: Streams to join, in this order; none for all.
        preload: Whether to keep the features in memory.
        max_preload_bytes: Features that take more than this stay in the file.

    Raises:
        ConfigError: If ``window`` or ``stride`` is not positive.
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
        >>> len(clips), clips[0]["frames"].shape, clips[0]["label"].item()
        (3, torch.Size([4, 3]), 1)
    """

    def __init__(
        self,
        store: FeatureStore,
        split: str,
        *,
        window: int,
        stride: int = 1,
        streams: Sequence[str] | None = None,
        preload: bool = True,
        max_preload_bytes: int = DEFAULT_PRELOAD_BYTES,
    ) -> None:
        _check_positive(window=window, stride=stride)
        self.window = window
        self.source = SplitFrames(store, split, streams=streams, preload=preload, max_preload_bytes=max_preload_bytes)
        clips = []
        for video in range(len(self.source.records)):
            counted = self.source.counted(video)
            last = np.arange(window - 1, len(counted), stride)
            last = last[counted[last]]
            clips.append(np.stack([np.full_like(last, video), last], axis=1))
        self._clips: NDArray[np.int64] = np.concatenate(clips)
        if not len(self._clips):
            longest = max(record.frames for record in self.source.records)
            raise DataError(
                f"{store.path}: split {split!r} has no clip of {window} frames to learn from "
                f"(its longest video has {longest}): use a smaller window or other data"
            )

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        video, last = (int(value) for value in self._clips[index])
        first = last + 1 - self.window
        label = self.source.labels[video][last]
        return {
            "frames": torch.from_numpy(self.source.read(video, first, last + 1)),
            "label": torch.from_numpy(label.astype(np.float32)) if self.source.multi_hot else torch.tensor(int(label)),
            "first_frame": torch.tensor(first),
        }


class SequenceDataset(Dataset[dict[str, Tensor]]):
    """Spans of whole videos with a label a frame, each after the frames that its answers depend on.

    Every video is cut into spans of ``length`` frames that carry loss (the first and last may be shorter). A
    span comes with up to ``context`` frames before it, without loss. With ``context = receptive field - 1``,
    a model gives each frame with loss the answer that it gives in the whole video, and each frame carries
    loss once an epoch.

    An item is a dict of ``frames`` ``(L + context, D)`` float32, ``labels`` and ``first_frame`` (int64, index
    in the video of the first frame in the item). Items shorter than ``L + context`` are padded with zeros at
    the end. Labels are ``(L + context,)`` int64 with -100 where there is no loss (context, ignored class,
    padding); if labels are multi-hot, they are ``(L + context, C)`` float32 and ``mask`` ``(L + context,)``
    bool says where there is loss.

    Args:
        store: The feature store.
        split: ``'train'``, ``'validation'`` or ``'test'``.
        length: Frames L with loss in a span.
        context: Frames before a span that its answers depend on.
        streams: Streams to join, in this order; none for all.
        preload: Whether to keep the features in memory.
        max_preload_bytes: Features that take more than this stay in the file.
        seed: Seed of the cuts; see `set_epoch`.

    Raises:
        ConfigError: If ``length`` is not positive, or ``context`` or ``seed`` is negative.
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
        streams: Sequence[str] | None = None,
        preload: bool = True,
        max_preload_bytes: int = DEFAULT_PRELOAD_BYTES,
        seed: int = 0,
    ) -> None:
        _check_positive(length=length)
        if context < 0 or seed < 0:
            raise ConfigError(f"context={context}, seed={seed}: neither may be negative")
        self.length, self.context, self.seed = length, context, seed
        self.source = SplitFrames(store, split, streams=streams, preload=preload, max_preload_bytes=max_preload_bytes)
        self._counted = tuple(self.source.counted(video) for video in range(len(self.source.records)))
        self._spans = self._cut([0] * len(self._counted))
        if not self._spans:
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
        """Return ``(video, start, stop)`` of every span that holds a frame with loss."""
        spans = []
        for video, (offset, counted) in enumerate(zip(offsets, self._counted, strict=True)):
            # The first span of a video ends at the offset; without one, at its full length.
            for end in range(offset or self.length, len(counted) + self.length, self.length):
                start, stop = max(0, end - self.length), min(end, len(counted))
                if start < stop and counted[start:stop].any():
                    spans.append((video, start, stop))
        return spans

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        video, start, stop = self._spans[index]
        first, size = max(0, start - self.context), self.length + self.context
        frames = np.empty((size, self.source.dim), np.float32)
        self.source.read(video, first, stop, frames[: stop - first])
        frames[stop - first :] = 0
        mask = np.zeros(size, bool)
        mask[start - first : stop - first] = self._counted[video][start:stop]
        item = {"frames": torch.from_numpy(frames), "first_frame": torch.tensor(first)}
        own = self.source.labels[video][first:stop]
        if self.source.multi_hot:
            hot = np.zeros((size, self.source.classes), np.float32)
            hot[: stop - first] = own
            return item | {"labels": torch.from_numpy(hot * mask[:, None]), "mask": torch.from_numpy(mask)}
        labels = np.full(size, NO_LOSS, np.int64)
        labels[: stop - first] = own
        labels[~mask] = NO_LOSS
        return item | {"labels": torch.from_numpy(labels)}


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}={value}: give a positive number of frames")
