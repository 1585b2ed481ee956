"""Segments of sound files as recordings of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from coadtr.audio import read_audio
from coadtr.data.sources.label_rules import check_ends
from coadtr.data.sources.sounds import STREAM, features_of_samples, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from coadtr.audio import LogMel
    from coadtr.data.importers.plan import VideoArrays
    from coadtr.data.sources.segments import TableSegment

__all__ = ["AudioClips", "repeated"]


def repeated(segments: Sequence[TableSegment]) -> list[str]:
    """Name the segments of a file that are in the table more than once, which may be with other classes.

    Example:
        >>> from coadtr.data.sources.segments import TableSegment
        >>> repeated([TableSegment(0.5, 2.0, "dog", "row 2"), TableSegment(0.5, 2.0, "cat", "row 3")])
        ['row 3: is the same segment as row 2: a recording has one class, drop one']
    """
    first: dict[tuple[float, float], TableSegment] = {}
    return [
        f"{segment.where}: is the same segment as {other.where}: a recording has one class, drop one"
        for segment in segments
        if (other := first.setdefault((segment.start, segment.end), segment)) is not segment
    ]


@dataclass
class AudioClips:
    """Cut segments out of files; the file that was read last is kept, as its other segments come next.

    Args:
        front_end: The front end.
        class_names: The C class names.
        outside: What is done about segments past the end of their file: ``'error'`` or ``'cut'``.

    Example:
        >>> from pathlib import Path
        >>> from coadtr.audio import log_mel_preset
        >>> from coadtr.data.sources.segments import TableSegment
        >>> clips = AudioClips(log_mel_preset("vggish"), ("cat", "dog"), outside="error")
        >>> bark = TableSegment(0.5, 2.0, "dog", "row 2")
        >>> [name for name, _read in clips.plan(Path("yard.wav"), "yard", [bark])]
        ['yard_0.5-2']
    """

    front_end: LogMel
    class_names: Sequence[str]
    outside: str
    _last: tuple[Path, NDArray[np.float32]] | None = field(default=None, init=False)

    def plan(
        self, path: Path, name: str, segments: Sequence[TableSegment]
    ) -> Iterator[tuple[str, Callable[[], VideoArrays]]]:
        """Give each segment of a file a name, and a function that reads it."""
        for segment in segments:
            yield f"{name}_{segment.start:.10g}-{segment.end:.10g}", partial(self.read, path, segment)

    def read(self, path: Path, segment: TableSegment) -> VideoArrays:
        """Return the features of a segment, and its class for each of them.

        Raises:
            DamagedError: If the file is damaged.
            DataError: If the segment is past its end, or shorter than one feature.
        """
        samples, rate = self._samples(path), self.front_end.rate_hz
        check_ends([segment], len(samples) / rate, outside=self.outside)
        cut = samples[round(segment.start * rate) : round(segment.end * rate)]
        features = features_of_samples(cut, rate, self.front_end)
        return {STREAM: features}, np.full(len(features), self.class_names.index(segment.label))

    def _samples(self, path: Path) -> NDArray[np.float32]:
        if self._last is None or self._last[0] != path:
            with readable():
                self._last = path, read_audio(path, rate_hz=self.front_end.rate_hz)[0]
        return self._last[1]
