"""Sound files of a folder, and their features: a log-mel front end, or embeddings that were made before."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.audio import AudioReader, LogMel, log_mel_preset, resample
from coadtr.errors import ConfigError, DamagedError, DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "AUDIO_SUFFIXES",
    "STREAM",
    "VIDEO_SUFFIXES",
    "choose_front_end",
    "features_of_file",
    "features_of_samples",
    "files_below",
    "readable",
]

AUDIO_SUFFIXES: Final = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac"),
    *(".aif", ".aiff", ".au", ".wma", ".mka"),
)
VIDEO_SUFFIXES: Final = (".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".ts")
STREAM: Final = "audio"
"""Name of the feature stream that sound becomes."""


def choose_front_end(name: str, changes: Mapping[str, object] | None) -> LogMel:
    """Make a log-mel front end out of the name of a preset and what is changed of it.

    Args:
        name: Name of a preset of `coadtr.audio.log_mel_preset`, such as ``vggish``.
        changes: Settings of `coadtr.audio.LogMel` by name; null keeps that of the preset.

    Raises:
        ConfigError: If there is no such preset or setting, or a value is of another kind or out of range.

    Example:
        >>> choose_front_end("vggish", {"bands": 40}).dim
        40
        >>> choose_front_end("vggish", {"bands": "many"})
        Traceback (most recent call last):
        coadtr.errors.ConfigError: log_mel: bands='many': ...
    """
    log_mel_preset(name)  # not to be told as a fault of the changes
    try:
        return log_mel_preset(
            name, **{str(setting): value for setting, value in (changes or {}).items() if value is not None}
        )
    except ConfigError as error:
        raise ConfigError(f"log_mel: {error}") from error


def files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Find the files with some suffixes in a folder and those below it, sorted; hidden ones are left out.

    A name that begins with a dot is what systems leave behind: ``.DS_Store``, and ``._x.wav`` on disks of a Mac.

    Args:
        folder: Where to look.
        suffixes: Suffixes in lower case.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.WAV", "._b.wav", "notes.txt"):
        ...     _ = (folder / name).write_text("")
        >>> [path.name for path in files_below(folder, AUDIO_SUFFIXES)]
        ['b.WAV']
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from files_below(path, suffixes)
        elif path.suffix.lower() in suffixes and path.is_file():
            yield path


def features_of_samples(samples: NDArray[np.float32], rate_hz: int, front_end: LogMel) -> NDArray[np.float32]:
    """Compute the features of samples that are in memory.

    Args:
        samples: ``(n,)`` in [-1, 1].
        rate_hz: Samples a second; others than those of the front end are resampled.
        front_end: The front end.

    Returns:
        ``(T, D)`` float32.

    Raises:
        DataError: If they are too few for one feature.

    Example:
        >>> features_of_samples(np.zeros(8000, np.float32), 8000, choose_front_end("telephone", None)).shape
        (98, 64)
    """
    found = front_end.stream().push(resample(samples, rate_hz, front_end.rate_hz))
    return _whole([found], len(samples) / rate_hz, front_end)


def features_of_file(path: Path, front_end: LogMel) -> tuple[NDArray[np.float32], float]:
    """Decode a sound file, or the sound of a video file, and compute its features as it is read.

    Args:
        path: The file.
        front_end: The front end.

    Returns:
        ``(T, D)`` float32, and the length of the sound in seconds.

    Raises:
        DamagedError: If the file is damaged, has no sound, or is shorter than one feature.
    """
    stream, blocks, samples = front_end.stream(), list[Any](), 0
    with readable(), AudioReader(path, rate_hz=front_end.rate_hz) as reader:
        for block in reader:
            samples += len(block)
            blocks.append(stream.push(block))
    seconds = samples / front_end.rate_hz
    try:
        return _whole(blocks, seconds, front_end), seconds
    except DataError as error:
        raise DamagedError(f"{path}: {error}") from error


@contextmanager
def readable() -> Iterator[None]:
    """Tell what is wrong with a file from what is wrong with what is said of it.

    Raises:
        DamagedError: In place of a `DataError`.

    Example:
        >>> with readable():
        ...     raise DataError("a.wav: is cut short")
        Traceback (most recent call last):
        coadtr.errors.DamagedError: a.wav: is cut short
    """
    try:
        yield
    except UnsafeFileError:  # nothing to pass over
        raise
    except DataError as error:
        raise DamagedError(str(error)) from error


def _whole(blocks: list[NDArray[np.float32]], seconds: float, front_end: LogMel) -> NDArray[np.float32]:
    features = np.concatenate(blocks) if blocks else np.empty((0, front_end.dim), np.float32)
    if not len(features):
        raise DataError(
            f"lasts {seconds:.3g} s, less than one feature of {front_end.feature_s:.3g} s: "
            "leave it out, or choose a front end with fewer patch_frames"
        )
    return features
