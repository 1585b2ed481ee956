"""Sound files to read again."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def chirp(seconds: float, rate_hz: int, *, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Make a rising tone in a little noise, ``(n, channels)``, each channel its own."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = [np.sin(2 * np.pi * (200 + 50 * place + 150 * time) * time) for place in range(channels)]
    noise = rng.standard_normal((len(time), channels))
    return (0.5 * np.stack(tones, axis=1) + 0.01 * noise).astype(np.float32)


def write_wav(path: Path, samples: NDArray[Any], rate_hz: int) -> Path:
    """Write ``(n, channels)`` samples as 16 bits by the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def write_sound(path: Path, samples: NDArray[np.float32], rate_hz: int, codec: str, *, late: float = 0.0) -> Path:
    """Write samples by FFmpeg; with pictures that begin ``late`` seconds before the sound, if that is above 0."""
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream("mpeg4", rate=10) if late else None
        stream: Any = container.add_stream(codec, rate=rate_hz, layout=layout)
        if late:
            _write_pictures(container, pictures, late)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="flt", layout=layout)
        frame.rate, frame.pts = rate_hz, 0
        form = av.AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=rate_hz,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        for piece in [*form.resample(frame), *form.resample(None)]:
            piece.pts = (piece.pts or 0) + round(late * rate_hz)
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def _write_pictures(container: Any, stream: Any, seconds: float) -> None:
    stream.width = stream.height = 32
    for index in range(round(10 * seconds)):
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 10)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
