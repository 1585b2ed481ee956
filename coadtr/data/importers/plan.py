"""What an importer finds in a source: the store that it would make, and how to read each video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

__all__ = ["ImportPlan", "PlannedVideo", "VideoArrays"]

VideoArrays: TypeAlias = tuple[Mapping[str, NDArray[Any]], NDArray[Any]]
"""Features ``(T, D)`` by stream, and labels: ``(T,)`` class indices or ``(T, C)`` zeros and ones."""


@dataclass(frozen=True, kw_only=True)
class PlannedVideo:
    """One video that an import will write.

    Attributes:
        name: Name of the video.
        split: ``'train'``, ``'validation'`` or ``'test'``.
        rate_hz: Frames a second.
        read: Read its arrays. It is called once; a `DataError` that it raises names file and field.
    """

    name: str
    split: str
    rate_hz: float
    read: Callable[[], VideoArrays]


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """What an import will write, and what is wrong with its source.

    Attributes:
        source: File or folder, for messages.
        class_names: The C class names.
        background: Index of the class that stands for "no action", or none.
        ignored: Index of the class that is never scored, or none.
        streams: Name and channels D of each feature stream.
        attributes: Where the data come from; any JSON object.
        videos: The videos, in the order of the store.
        files: Files that are read; their sizes and times tell whether an interrupted import may go on.
        problems: What is wrong with the source, each naming file, place, value and remedy.
        warnings: What a user should know, though nothing is wrong.
        damaged: What the option of that name does about a video whose file is damaged: ``'error'``, or ``'skip'`` to
            leave it out; none where the importer has no such option, and it is an error.
        label_kind: How labels are stored; ``'auto'``: as class indices if every frame has exactly one class.

    Example:
        >>> import numpy as np
        >>> video = PlannedVideo(
        ...     name="a", split="test", rate_hz=5.0, read=lambda: ({"imu": np.ones((3, 2))}, np.zeros(3, int))
        ... )
        >>> plan = ImportPlan(
        ...     source=Path("a"), class_names=("rest", "lift"), background=0, ignored=None,
        ...     streams={"imu": 2}, attributes={}, videos=(video,),
        ... )
        >>> plan.problems, plan.label_kind
        ((), 'auto')
    """

    source: Path
    class_names: tuple[str, ...]
    background: int | None
    ignored: int | None
    streams: Mapping[str, int]
    attributes: Mapping[str, object]
    videos: tuple[PlannedVideo, ...]
    files: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    damaged: Literal["error", "skip"] | None = None
    label_kind: Literal["auto", "index", "multi-hot"] = "auto"
