"""Videos written by the tests: the grey level of each frame is its number."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs the extra `video`")

STEP, BASE, NUMBERS = 3, 10, 80


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a grey picture whose upper left quarter is darker; after 80 the numbers begin anew."""
    image = np.full((height, width, 3), BASE + STEP * (number % NUMBERS), np.uint8)
    image[: height // 2, : width // 2] //= 2
    return image


def number_of(image: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """Read the number of a frame off its lower right corner."""
    return round((float(image[-8:, -8:].mean()) - BASE) / STEP)


def write_video(
    path: Path,
    frames: int = 60,
    *,
    rate: int = 30,
    stamps_ms: Sequence[int] | None = None,
    codec: str = "libx264",
    size: tuple[int, int] = (48, 64),
    audio: bool = False,
    second: bool = False,
    **options: Any,
) -> Path:
    """Write a video; ``stamps_ms`` gives the time of each frame, for frames of uneven length."""
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "bf": "2"} if codec == "libx264" else {"qmin": "1", "qmax": "1"}
        stream.gop_size = 15
        if stamps_ms is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        other = None
        if second:
            other = container.add_stream(codec, rate=rate)
            other.height, other.width, other.pix_fmt = 16, 16, "yuv420p"
        sound = container.add_stream("aac", rate=16000) if audio else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            if stamps_ms is not None:
                frame.pts, frame.time_base = stamps_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
            if other is not None:
                container.mux(other.encode(av.VideoFrame.from_ndarray(picture(0, 16, 16), format="rgb24")))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            silence.rate = 16000
            container.mux(sound.encode(silence))
        for each in (stream, other, sound):
            if each is not None:
                container.mux(each.encode(None))
    return path


def turn(path: Path) -> Path:
    """Mark an mp4 as one to be shown a quarter turn clockwise, as telephones do: the matrix in its track header."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def blot(path: Path, packet: int) -> Path:
    """Overwrite the inside of a packet with zeros."""
    with av.open(str(path)) as container:
        chosen = list(container.demux(video=0))[packet]
        first, last = chosen.pos + chosen.size // 3, chosen.pos + chosen.size
    content = bytearray(path.read_bytes())
    content[first:last] = bytes(last - first)
    path.write_bytes(content)
    return path


def join(path: Path, *parts: Path) -> Path:
    """Put transport streams one after the other."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def cut(path: Path, part: float) -> Path:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    return path
