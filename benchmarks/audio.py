"""Time the way of sound to features: decoding, resampling and log-mel, streaming and whole, beside librosa's.

    python benchmarks/audio.py

The ways take turns over the same minute of sound (a rising tone in noise, 44.1 kHz, seeded), so that a drift of the
machine's speed meets them all alike. Each figure is seconds of sound per second of computing, on one thread:

decode          the WAV, FLAC or MP3 file into samples
resample        44.1 kHz to 16 kHz, by `coadtr.audio.resample`; ``librosa``: by its default, soxr's high quality
log-mel         VGGish's features of the whole minute; ``librosa``: magnitudes of its transform, its filters, logarithm
stream          the same features of 10 ms at a time, as a microphone gives them
live            decoding, resampling and features in blocks of 10 ms, as `coadtr live` does them

It took 9 s with --rounds 4. AMD EPYC, 2 cores, idle; Python 3.11.7, numpy 2.4.6, librosa 0.11.0, PyAV 18.1.0,
soxr 1.1.0. Median of 4 rounds, and range:

    decode wav 1792 (1770 to 1826), flac 1266 (1256 to 1273), mp3 941 (918 to 947)
    resample 5970 (5787 to 6002), librosa 6372 (6258 to 6438)
    log-mel 3795 (3677 to 3858), librosa 3651 (3575 to 3707), stream 162 (145 to 177)
    live 132 (131 to 133)
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
from numpy.typing import NDArray

from coadtr.audio import LogMel, read_audio, resample
from coadtr.live.hearing import Ears, SoundReader

RATE, TO = 44100, 16000
CODECS = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame"}


def write(path: Path, samples: NDArray[np.float32], codec: str) -> Path:
    """Write a sound file."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.rate, frame.pts = RATE, 0
        size = stream.codec_context.frame_size or 1024
        form = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=RATE, frame_size=size)
        for piece in [*form.resample(frame), *form.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def by_librosa(bank: NDArray[np.float32], samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute log-mel frames with librosa's parts."""
    padded = np.pad(samples, 56)
    spectrum = np.abs(librosa.stft(padded, n_fft=512, hop_length=160, win_length=400, center=False))
    frames: NDArray[np.float32] = np.log(bank @ spectrum + 0.01).T
    return frames


def stream(front_end: LogMel, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute features of 10 ms at a time."""
    going = front_end.stream()
    return np.concatenate([going.push(samples[begin : begin + 160]) for begin in range(0, len(samples), 160)])


def live(front_end: LogMel, path: Path) -> int:
    """Do all that comes before the detector."""
    heard = Ears(front_end).stream()
    with SoundReader(str(path), TO) as reader:
        return sum(len(heard.chunks(block)) for block in reader)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    at = np.arange(round(options.seconds * RATE)) / RATE
    samples = (0.4 * np.sin(2 * np.pi * (200 + 20 * at) * at) + 0.02 * rng.standard_normal(len(at))).astype(np.float32)
    front_end, lower = LogMel(), resample(samples, RATE, TO)
    bank = librosa.filters.mel(sr=TO, n_fft=512, n_mels=64, fmin=125.0, fmax=7500.0, htk=True, norm=None)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: write(Path(folder) / f"a.{name}", samples, codec) for name, codec in CODECS.items()}
        ways: dict[str, Callable[[], object]] = {
            **{f"decode {name}": partial(read_audio, path) for name, path in files.items()},
            "resample": lambda: resample(samples, RATE, TO),
            "resample librosa": lambda: librosa.resample(samples, orig_sr=RATE, target_sr=TO),
            "log-mel": lambda: front_end.features(lower),
            "log-mel librosa": lambda: by_librosa(bank, lower),
            "stream": lambda: stream(front_end, lower),
            "live": lambda: live(front_end, files["wav"]),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, run in ways.items():
                begun = time.perf_counter()
                run()
                if number:  # the first round does not count
                    found[name].append(options.seconds / (time.perf_counter() - begun))
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__},")
    print(f"librosa {version('librosa')}, PyAV {av.__version__}; seconds of sound per second, median and range")
    for name, speeds in found.items():
        print(f"{name:<18}{statistics.median(speeds):8,.0f}   ({min(speeds):,.0f} to {max(speeds):,.0f})")


if __name__ == "__main__":
    main()
