"""The Free Spoken Digit Dataset: 3,000 utterances of ten digits by six speakers, at 8 kHz.

Two layouts: a folder of ``{digit}_{speaker}_{index}.wav``, as github.com/Jakobovski/free-spoken-digit-dataset has it,
or one ``.npz`` file with ``samples (N,) int16``, ``offsets (U+1,)`` (utterance i is samples
``offsets[i]:offsets[i+1]``), ``digit (U,)``, ``speaker (U,)``, ``index (U,)`` and ``sample_rate``. The official test
split is index 0 to 4.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from coadtr.audio import read_audio
from coadtr.data.importers.problems import raise_problems
from coadtr.data.sources.safe_npz import NpzFile
from coadtr.data.sources.sounds import files_below
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["DIGITS", "SpokenDigits", "Utterance", "find_spoken_digits"]

DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEST_TAKES: Final = 5
_NAME: Final = re.compile(r"(\d)_([^_]+)_(\d+)")
# Rank and kinds of each array.
_ARRAYS: Final = {
    "samples": (1, "i"),
    "offsets": (1, "iu"),
    "digit": (1, "iu"),
    "speaker": (1, "U"),
    "index": (1, "iu"),
    "sample_rate": (0, "iu"),
}


class Utterance(NamedTuple):
    """One spoken digit.

    Attributes:
        digit: 0 to 9.
        speaker: Name of the speaker.
        take: Which of the speaker's takes of the digit it is, from 0.

    Example:
        >>> Utterance(7, "jackson", 3).name, Utterance(7, "jackson", 3).split(validation_takes=5)
        ('7_jackson_3', 'test')
    """

    digit: int
    speaker: str
    take: int

    @property
    def name(self) -> str:
        """Name of its file, without the suffix."""
        return f"{self.digit}_{self.speaker}_{self.take}"

    def split(self, *, validation_takes: int) -> str:
        """Return the split: takes 0 to 4 test, as published, and those after them validate."""
        if self.take < _TEST_TAKES:
            return "test"
        return "validation" if self.take < _TEST_TAKES + validation_takes else "train"


class SpokenDigits(NamedTuple):
    """Utterances, and how the samples of each are read.

    Attributes:
        utterances: The utterances, in the order of their digits, speakers and indices.
        files: Files that they lie in.
        read: Give ``(n,)`` float32 samples in [-1, 1], and their rate, of the utterance at a place.
    """

    utterances: tuple[Utterance, ...]
    files: tuple[Path, ...]
    read: Callable[[int], tuple[NDArray[np.float32], int]]

    def splits(self, validation_takes: int) -> dict[str, list[int]]:
        """Return the places of the utterances of each split.

        Raises:
            ConfigError: If the number of takes to validate on is negative.
        """
        if validation_takes < 0:
            raise ConfigError(f"validation_takes={validation_takes}: give 0 or a positive whole number")
        found: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
        for place, utterance in enumerate(self.utterances):
            found[utterance.split(validation_takes=validation_takes)].append(place)
        return found


def find_spoken_digits(source: Path) -> SpokenDigits:
    """Find the utterances of the data set in a folder or an ``.npz`` file.

    Args:
        source: Folder of ``{digit}_{speaker}_{index}.wav``, or ``.npz`` file.

    Raises:
        DataError: If there are none, or names, fields or values are not what the layout asks for; all in one message.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "fsdd.npz"
        >>> np.savez(
        ...     path, samples=np.zeros(900, "i2"), offsets=[0, 400, 900], digit=np.array([3, 1]),
        ...     speaker=["theo", "theo"], index=np.array([0, 9]), sample_rate=8000,
        ... )
        >>> digits = find_spoken_digits(path)
        >>> [utterance.name for utterance in digits.utterances], digits.read(0)[0].shape
        (['1_theo_9', '3_theo_0'], (500,))
    """
    if source.is_dir():
        return _in_folder(source)
    if not source.is_file():
        raise DataError(f"{source}: no such file or folder: give the folder of recordings, or fsdd.npz")
    return _in_npz(source)


def _in_folder(folder: Path) -> SpokenDigits:
    inner = folder / "recordings"  # as the repository has it
    files = list(files_below(inner if inner.is_dir() else folder, (".wav",)))
    found: dict[Utterance, Path] = {}
    problems = list[str]()
    for path in files:
        parts = _NAME.fullmatch(path.stem)
        if parts is None:
            problems.append(f"file {path.name!r} is not named DIGIT_SPEAKER_INDEX.wav: rename or remove it")
            continue
        utterance = Utterance(int(parts[1]), parts[2], int(parts[3]))
        if utterance in found:
            problems.append(f"files {found[utterance].name!r} and {path.name!r} are of one utterance: drop one")
        found[utterance] = path
    if not files:
        problems.append("holds no .wav files: give the folder of recordings, or fsdd.npz")
    raise_problems(folder, problems)
    utterances = tuple(sorted(found))
    return SpokenDigits(
        utterances, tuple(found[one] for one in utterances), lambda place: read_audio(found[utterances[place]])
    )


def _in_npz(path: Path) -> SpokenDigits:
    file = NpzFile(path, tuple(_ARRAYS))
    file.require(_ARRAYS)
    arrays = {field: file.read(field) for field in _ARRAYS if field != "samples"}
    raise_problems(path, _faults(arrays, file.arrays["samples"].shape[0]))
    rows = zip(arrays["digit"], arrays["speaker"], arrays["index"], strict=True)
    listed = [Utterance(int(digit), str(speaker), int(index)) for digit, speaker, index in rows]
    order = sorted(range(len(listed)), key=listed.__getitem__)
    offsets, rate = arrays["offsets"].astype(np.int64), int(arrays["sample_rate"])

    @lru_cache(maxsize=1)
    def samples() -> NDArray[Any]:
        return file.read("samples")

    def read(place: int) -> tuple[NDArray[np.float32], int]:
        block = samples()[offsets[order[place]] : offsets[order[place] + 1]]
        return (block / -float(np.iinfo(block.dtype).min)).astype(np.float32), rate

    return SpokenDigits(tuple(listed[place] for place in order), (path,), read)


def _faults(arrays: Mapping[str, NDArray[Any]], samples: int) -> list[str]:
    count, offsets, found = len(arrays["digit"]), arrays["offsets"].astype(np.int64), list[str]()
    for field, length in (("speaker", count), ("index", count), ("offsets", count + 1)):
        if len(arrays[field]) != length:
            found.append(f"field {field!r} has {len(arrays[field])} entries for {count} utterances: give {length}")
    if found:
        return found
    if offsets[0] != 0 or offsets[-1] != samples:
        found.append(f"field 'offsets' runs from {offsets[0]} to {offsets[-1]}: it must run from 0 to {samples}")
    empty = np.flatnonzero(np.diff(offsets) <= 0)
    found += [f"field 'offsets': utterance {i} has {np.diff(offsets)[i]} samples: leave it out" for i in empty]
    wrong = np.flatnonzero((arrays["digit"] < 0) | (arrays["digit"] > 9))
    found += [f"field 'digit': {arrays['digit'][i]} of utterance {i} is no digit: correct it" for i in wrong]
    negative = np.flatnonzero(arrays["index"].astype(np.int64) < 0)
    found += [f"field 'index': {arrays['index'][i]} of utterance {i} is below 0: correct it" for i in negative]
    if arrays["sample_rate"] < 1:
        found.append(f"field 'sample_rate' is {arrays['sample_rate']}: give the samples a second, a positive number")
    takes = zip(arrays["digit"].tolist(), arrays["speaker"].tolist(), arrays["index"].tolist(), strict=True)
    twice = [Utterance(*take).name for take, times in Counter(takes).items() if times > 1]
    return [*found, *([f"utterances {listing(twice)} are there more than once: keep one of each"] if twice else [])]
