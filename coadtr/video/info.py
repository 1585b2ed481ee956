"""Say what a video is without decoding all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coadtr.video.decode import VideoReader

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VideoInfo", "probe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a video says of itself.

    Attributes:
        source: File or address.
        seconds: Length as the container declares it, from its start, or none (live streams).
        rate_hz: Average frames a second, or none if unknown.
        width: Pixels of the upright picture.
        height: Pixels of the upright picture.
        rotation: Degrees by which the stored picture is turned counter-clockwise to be upright.
        codec: Name of the codec, such as ``h264``.
    """

    source: str
    seconds: float | None
    rate_hz: float | None
    width: int
    height: int
    rotation: int
    codec: str


def probe(source: str | Path) -> VideoInfo:
    """Open a video, decode its first frame and say what it is.

    Args:
        source: File or address.

    Returns:
        Length, rate, upright size, rotation and codec.

    Raises:
        DataError: If the source holds no video that can be decoded.

    Example:
        >>> probe("no_such_file.mp4")
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_file.mp4: cannot be opened (No such file or directory): give a video file
    """
    with VideoReader(source) as reader:
        first = next(iter(reader))
        height, width = first.rgb.shape[:2]
        return VideoInfo(
            source=reader.source,
            seconds=reader.declared_seconds,
            rate_hz=reader.rate_hz,
            width=width,
            height=height,
            rotation=first.rotation,
            codec=reader.codec,
        )
