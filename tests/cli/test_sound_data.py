"""Sound into stores through the command line: stores come out, and wrong calls are told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter
from tests.cli.calling import refuse, succeed
from tests.data.importers.sounds_source import tone, write_digits, write_wav


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a folder of classes, a table of events, spoken digits, and a store of pictures with its sound."""
    for label, hz in (("cat", 300), ("dog", 900)):
        for number in range(4):
            write_wav(tmp_path / "classes" / label / f"{label}{number}.wav", tone(0.3, hz))
    (tmp_path / "events.csv").write_text(
        "file,start,end,label\ncat0,0.1,0.2,meow\ndog0,0.1,0.2,bark\ncat1,0,0.2,meow\n"
    )
    write_digits(tmp_path / "digits", takes=11, digits=(0, 1))
    with StoreWriter(tmp_path / "video.h5", class_names=["x", "y"], streams={"rgb": 2}) as writer:
        for name in ("cat0", "dog0"):
            writer.add(name, split="test", rate_hz=10.0, features={"rgb": np.ones((3, 2), "f4")}, labels=[0, 1, 1])
    return tmp_path


BRIEF = ("options.front_end=telephone",)
CALLS: dict[str, tuple[str, ...]] = {
    "fsdd": ("data", "import", "format=fsdd", "source=digits", "options.log_mel={bands: 20}"),
    "fsdd-stream": (
        "data",
        "import",
        "format=fsdd-stream",
        "source=digits",
        "options.streams={train: 2}",
        "options.noise_db=null",
    ),
    "audio-folders": ("data", "import", "format=audio-folders", "source=classes", *BRIEF),
    "audio-csv": ("data", "import", "format=audio-csv", "source=events.csv", "options.audio=classes", *BRIEF),
    "clips": (
        "data",
        "import",
        "format=audio-csv",
        "source=events.csv",
        "options.audio=classes",
        "options.clips=true",
        *BRIEF,
    ),
    "add-audio": ("data", "add-audio", "data=video.h5", "audio=classes", "front_end=telephone", "align=mean"),
}


@pytest.mark.parametrize("kind", CALLS)
def test_commands_write_stores(folder: Path, kind: str) -> None:
    shown = succeed(*CALLS[kind], "out=out.h5", folder=folder)
    with FeatureStore(folder / "out.h5") as store:
        assert "audio" in store.streams
        assert all(name in shown for name in ("audio", "train" if kind != "add-audio" else "test"))
        assert store.extractors["audio"]["rate_hz"] == "8000"
        assert (store.attributes.get("task") == "audio") == (kind in {"fsdd", "audio-folders", "clips"})


WRONG: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "text for a number": (
        ("format=fsdd", "source=digits", "options.validation_takes=many"),
        2,
        ("options.validation_takes",),
    ),
    "unknown option": (("format=audio-folders", "source=classes", "options.rate=4"), 2, ("rate",)),
    "unknown setting": (("format=fsdd", "source=digits", "options.log_mel={mels: 3}"), 2, ("'mels'", "bands")),
    "a word for settings": (("format=fsdd", "source=digits", "options.log_mel=64"), 2, ("options.log_mel",)),
    "wrong number": (("format=fsdd", "source=digits", "options.log_mel={bands: x}"), 2, ("bands='x'",)),
    "wrong preset": (("format=fsdd", "source=digits", "options.front_end=mfcc"), 2, ("options.front_end='mfcc'",)),
    "wrong streams": (("format=fsdd-stream", "source=digits", "options.streams={dev: 2}"), 2, ("dev",)),
    "wrong choice": (
        ("format=audio-folders", "source=classes", "options.damaged=drop"),
        2,
        ("options.damaged='drop'",),
    ),
    "wrong list": (("format=audio-folders", "source=classes", "options.splits={train: no.txt}"), 1, ("no.txt",)),
    "missing source": (("format=audio-csv", "source=no.csv"), 1, ("no.csv",)),
    "clips in words": (("format=audio-csv", "source=events.csv", "options.clips=often"), 2, ("options.clips",)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_imports_are_told_in_one_line(folder: Path, kind: str) -> None:
    words, code, names = WRONG[kind]
    refuse("data", "import", *words, "out=out.h5", folder=folder, code=code, names=names)


WRONG_SOUND: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "unknown rule": (("audio=classes", "align=nearest"), 2, ("align='nearest'", "'mean'")),
    "no sound": (("audio=digits",), 1, ("2 videos have no sound: 'cat0', 'dog0'",)),
    "no folder": (("audio=nowhere", "rate_hz=4"), 1, ("nowhere",)),
    "rate in words": (("audio=classes", "rate_hz=fast"), 2, ("rate_hz",)),
    "log_mel in words": (("audio=classes", "log_mel=64"), 2, ("log_mel",)),
    "no audio": ((), 2, ("audio=... must be given",)),
}


@pytest.mark.parametrize("kind", WRONG_SOUND)
def test_wrong_sound_beside_video_is_told_in_one_line(folder: Path, kind: str) -> None:
    words, code, names = WRONG_SOUND[kind]
    refuse("data", "add-audio", "data=video.h5", *words, "out=out.h5", folder=folder, code=code, names=names)
