"""Sound files for the tests: tones as WAV, written by the standard library."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE_HZ = 8000


def tone(seconds: float, hz: float = 440.0, *, rate_hz: int = RATE_HZ) -> NDArray[np.int16]:
    """Return samples of a tone at half of full scale."""
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.round(16384 * np.sin(2 * np.pi * hz * at)).astype(np.int16)


def write_wav(path: Path, samples: NDArray[np.int16], *, rate_hz: int = RATE_HZ) -> Path:
    """Write a WAV file of one channel, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return path


def write_digits(folder: Path, *, takes: int = 12, digits: tuple[int, ...] = (0, 1, 7)) -> Path:
    """Write spoken digits as tones: one speaker, some takes of each digit, of 0.1 s and more."""
    for digit in digits:
        for take in range(takes):
            write_wav(folder / f"{digit}_theo_{take}.wav", tone(0.1 + 0.01 * take + 0.02 * digit, 300 + 200 * digit))
    return folder


def write_digits_npz(path: Path, folder: Path) -> Path:
    """Write what `write_digits` wrote as one .npz file, in another order."""
    files = sorted(folder.glob("*.wav"), reverse=True)
    samples = []
    for file in files:
        with wave.open(str(file), "rb") as sound:
            samples.append(np.frombuffer(sound.readframes(sound.getnframes()), np.int16))
    digit, speaker, take = zip(*(file.stem.split("_") for file in files), strict=True)
    np.savez(
        path,
        samples=np.concatenate(samples),
        offsets=np.cumsum([0, *(len(block) for block in samples)]),
        digit=np.array(digit, np.uint8),
        speaker=np.array(speaker),
        index=np.array(take, np.uint8),
        sample_rate=np.int64(RATE_HZ),
    )
    return path
