"""Say what is in a feature store: videos, frames, hours and classes of every split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from coadtr.data.statistics import count_labels
from coadtr.data.storage.schema import SPLITS, VideoRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from coadtr.data.storage.store import FeatureStore

__all__ = ["SplitSummary", "Summary", "render", "split_summaries", "summarise"]


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """What one split holds.

    Attributes:
        split: ``'train'``, ``'validation'`` or ``'test'``.
        videos: Number of videos.
        frames: Number of frames.
        hours: Length in hours, by the rate of each video.
        class_frames: Frames per class, in the order of the class names.
    """

    split: str
    videos: int
    frames: int
    hours: float
    class_frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a feature store holds.

    Attributes:
        path: Path of the store.
        fingerprint: Short hash that tells this data from other data.
        class_names: The C class names.
        background: Name of the background class, or none.
        ignored: Name of the ignored class, or none.
        streams: Name and channels D of each feature stream.
        rates_hz: The frame rates that occur.
        label_kind: ``'index'`` or ``'multi-hot'``.
        attributes: Where the data come from.
        splits: One entry per split that holds videos.
    """

    path: str
    fingerprint: str
    class_names: tuple[str, ...]
    background: str | None
    ignored: str | None
    streams: dict[str, int]
    rates_hz: tuple[float, ...]
    label_kind: str
    attributes: dict[str, object]
    splits: tuple[SplitSummary, ...]

    @property
    def videos(self) -> int:
        """Number of videos."""
        return sum(split.videos for split in self.splits)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(split.frames for split in self.splits)

    @property
    def hours(self) -> float:
        """Length of all videos in hours."""
        return sum(split.hours for split in self.splits)


def summarise(store: FeatureStore) -> Summary:
    """Count what a store holds. Reads labels, not features.

    Args:
        store: The feature store.

    Returns:
        The counts.

    Raises:
        DataError: If the file is damaged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from coadtr.data import FeatureStore, write_exercises
        >>> summary = summarise(FeatureStore(write_exercises(Path(tempfile.mkdtemp()) / "exercises.h5")))
        >>> summary.videos, summary.frames, round(summary.hours, 2)
        (10, 24351, 1.35)
    """
    classes = len(store.class_names)
    return Summary(
        path=str(store.path),
        fingerprint=store.fingerprint(),
        class_names=store.class_names,
        background=None if store.background is None else store.class_names[store.background],
        ignored=None if store.ignored is None else store.class_names[store.ignored],
        streams=store.streams,
        rates_hz=tuple(sorted({record.rate_hz for record in store.videos()})),
        label_kind=store.label_kind,
        attributes=store.attributes,
        splits=split_summaries(
            [(record, count_labels(store.labels(record.name), classes)) for record in store.videos()]
        ),
    )


def split_summaries(videos: Iterable[tuple[VideoRecord, NDArray[np.int64]]]) -> tuple[SplitSummary, ...]:
    """Add up the videos of each split.

    Args:
        videos: The record of each video, and ``(C,)`` its frames of each class.

    Returns:
        One entry per split that holds videos, in the order train, validation, test.

    Example:
        >>> record = VideoRecord("a", "test", frames=3, rate_hz=1.0)
        >>> split_summaries([(record, np.array([1, 2]))])
        (SplitSummary(split='test', videos=1, frames=3, hours=0.0008333333333333334, class_frames=(1, 2)),)
    """
    every = list(videos)
    summaries = []
    for split in SPLITS:
        own = [(record, counts) for record, counts in every if record.split == split]
        if own:
            summaries.append(
                SplitSummary(
                    split=split,
                    videos=len(own),
                    frames=sum(record.frames for record, _ in own),
                    hours=sum(record.seconds for record, _ in own) / 3600,
                    class_frames=tuple(np.sum([counts for _, counts in own], axis=0).tolist()),
                )
            )
    return tuple(summaries)


def render(summary: Summary) -> Group:
    """Lay a summary out for the terminal: a heading and one table, printable by rich.

    Args:
        summary: What `summarise` returned.

    Returns:
        What ``rich.print`` takes.

    Example:
        >>> render(Summary("a.h5", "0f", ("rest", "lift"), "rest", None, {"imu": 3}, (5.0,), "index", {}, ()))
        <rich.console.Group object at ...>
    """
    table = Table("", *(split.split for split in summary.splits), "all")
    rows: list[tuple[str, list[float], str]] = [
        ("videos", [split.videos for split in summary.splits], ",.0f"),
        ("frames", [split.frames for split in summary.splits], ",.0f"),
        ("hours", [split.hours for split in summary.splits], ".2f"),
    ]
    for title, values, style in rows:
        table.add_row(title, *(format(value, style) for value in (*values, sum(values))), end_section=title == "hours")
    for index, name in enumerate(summary.class_names):
        role = {summary.background: " (background)", summary.ignored: " (ignored)"}.get(name, "")
        counts = [split.class_frames[index] for split in summary.splits]
        table.add_row(Text(f"{index} {name}{role}"), *(f"{count:,}" for count in (*counts, sum(counts))))
    for column in table.columns[1:]:
        column.justify = "right"
    streams = ", ".join(f"{name} {dim}" for name, dim in summary.streams.items())
    rates = ", ".join(f"{rate:g}" for rate in summary.rates_hz)
    return Group(
        Text(f"{summary.path}  ({summary.fingerprint})"),
        Text(f"streams: {streams} · rate: {rates} Hz · labels: {summary.label_kind}"),
        *(Text(f"{key}: {value}") for key, value in summary.attributes.items() if isinstance(value, str)),
        table,
    )
