"""The journal: a killed run goes on, and the store is the same, byte for byte, however often it was interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreJournal
from coadtr.data.storage.schema import Header
from coadtr.errors import ConfigError, DataError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

HEADER = Header(("background", "cut", "mix"), 0, None, {"rgb": 4, "flow": 2}, {"origin": "a test"})
NAMES = ("d", "a", "c", "b")


def _video(name: str) -> dict[str, Any]:
    rng = np.random.default_rng(ord(name))
    frames = 5 + ord(name) % 7
    return {
        "split": "test" if name == "d" else "train",
        "rate_hz": 4.0,
        "features": {"rgb": rng.standard_normal((frames, 4), np.float32), "flow": np.full((frames, 2), 1.5, "f2")},
        "labels": rng.integers(0, 3, frames),
    }


def _journal(path: Path, *, identity: str = "one", **options: Any) -> StoreJournal:
    return StoreJournal(path, HEADER, identity=identity, **options)


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    with _journal(tmp_path / "whole.h5") as journal:
        for name in NAMES:
            journal.add(name, **_video(name))
        journal.finish(NAMES)
    out = tmp_path / "pieces.h5"
    for names in (NAMES[:1], NAMES[1:3], NAMES[3:]):
        with _journal(out) as journal:
            for name in names:
                assert name not in journal.done
                journal.add(name, **_video(name))
            assert not out.exists()
            if names == NAMES[3:]:
                journal.finish(NAMES)
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert _left(tmp_path) == ["pieces.h5", "whole.h5"]
    with FeatureStore(out) as store:
        assert [video.name for video in store.videos()] == list(NAMES)
        assert store.attributes == {"origin": "a test"}
        for name in NAMES:
            wanted = _video(name)
            np.testing.assert_array_equal(store.features(name, streams=["rgb"]), wanted["features"]["rgb"])
            np.testing.assert_array_equal(store.labels(name), wanted["labels"])


KILLED = """
    import os, signal, sys
    import numpy as np
    from coadtr.data import StoreJournal
    from coadtr.data.storage.schema import Header
    header = Header(("background", "cut", "mix"), 0, None, {"rgb": 4}, {})
    with StoreJournal(sys.argv[1], header, identity="killed") as journal:
        for index in range(int(sys.argv[2])):
            name = f"video-{index}"
            if name not in journal.done:
                frames = np.full((50, 4), index, "f4")
                journal.add(name, split="train", rate_hz=4.0, features={"rgb": frames}, labels=np.ones(50, int))
        if sys.argv[3] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        journal.finish([f"video-{index}" for index in range(int(sys.argv[2]))])
"""


def test_a_killed_process_leaves_what_it_had_done(tmp_path: Path) -> None:
    def run(out: str, videos: int, end: str) -> int:
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / out), str(videos), end]
        return subprocess.run(command, check=False).returncode  # noqa: S603 - our own interpreter

    assert run("killed.h5", 3, "die") == -signal.SIGKILL
    assert _left(tmp_path) == [".killed.h5.parts"]
    assert len(list((tmp_path / ".killed.h5.parts").glob("*.h5"))) == 3
    assert run("killed.h5", 5, "end") == 0
    assert run("whole.h5", 5, "end") == 0
    assert _left(tmp_path) == ["killed.h5", "whole.h5"]
    assert (tmp_path / "killed.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_another_identity_starts_anew(tmp_path: Path) -> None:
    with _journal(tmp_path / "a.h5") as journal:
        journal.add("a", **_video("a"))
    for changes in ({"identity": "two"}, {"dtype": "float16"}, {"compression": "gzip"}):
        with _journal(tmp_path / "a.h5", **changes) as journal:
            assert journal.done == frozenset()
            journal.add("a", **_video("a"))


def test_a_part_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    with _journal(tmp_path / "a.h5") as journal:
        for name in "ab":
            journal.add(name, **_video(name))
    parts = sorted((tmp_path / ".a.h5.parts").glob("*.h5"))
    parts[0].write_bytes(parts[0].read_bytes()[:700])
    (tmp_path / ".a.h5.parts" / ".x.h5.1234.part").write_bytes(b"half")
    with _journal(tmp_path / "a.h5") as journal:
        assert len(journal.done) == 1
        (missing,) = {"a", "b"} - journal.done
        journal.add(missing, **_video(missing))
        journal.finish(["a", "b"])
    assert _left(tmp_path) == ["a.h5"]


def test_a_part_whose_values_were_lost_is_made_again(tmp_path: Path) -> None:
    """A disk that loses power may keep a file's size and forget what is in it; a checksum of zeros is zero."""
    with _journal(tmp_path / "whole.h5") as journal:
        for name in "ab":
            journal.add(name, **_video(name))
        journal.finish(["a", "b"])
    with _journal(tmp_path / "a.h5") as journal:
        for name in "ab":
            journal.add(name, **_video(name))
    part = sorted((tmp_path / ".a.h5.parts").glob("*.h5"))[1]
    with h5py.File(part) as file:
        (video,) = file["videos"].values()
        chunk = video["rgb"].id.get_chunk_info(0)
    content = bytearray(part.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    part.write_bytes(content)
    with _journal(tmp_path / "a.h5") as journal:
        (lost,) = {"a", "b"} - journal.done
        journal.add(lost, **_video(lost))
        journal.finish(["a", "b"])
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_a_full_disk_is_no_fault_of_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with _journal(tmp_path / "a.h5") as journal:
        journal.add("a", **_video("a"))
        monkeypatch.setattr("coadtr.data.storage.writer.write_array", full)
        with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
            journal.add("b", **_video("b"))
    monkeypatch.undo()
    with _journal(tmp_path / "a.h5") as journal:
        assert journal.done == {"a"}


def test_an_empty_journal_leaves_nothing(tmp_path: Path) -> None:
    with _journal(tmp_path / "new" / "folder" / "a.h5"):
        assert (tmp_path / "new").is_dir()
    assert _left(tmp_path) == []


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        _journal(tmp_path / "a.h5"),
        pytest.raises(DataError, match="another process is writing it: wait for that one, or choose another out"),
        _journal(tmp_path / "a.h5"),
    ):
        pass


def test_what_is_wrong_is_told_without_the_name_of_a_part(tmp_path: Path) -> None:
    with _journal(tmp_path / "a.h5", dtype="float16") as journal:
        wrong = _video("a")
        wrong["features"]["rgb"][2, 1] = 1e6
        with pytest.raises(
            DataError, match=r"^field 'rgb': value inf at frame 2, channel 1: beyond the range of float16"
        ):
            journal.add("a", **wrong)
        with pytest.raises(DataError, match=r"^has 11 frames of features but 3 labels"):
            journal.add("a", **{**_video("a"), "labels": [0, 1, 1]})
        journal.add("a", **_video("a"))
        with pytest.raises(DataError, match="is there already"):
            journal.add("a", **_video("a"))
        with pytest.raises(DataError, match="video 'b' was not written"):
            journal.finish(["a", "b"])
    with pytest.raises(ConfigError, match="dtype='int8': use float16 or float32"):
        _journal(tmp_path / "b.h5", dtype="int8")


@pytest.mark.parametrize(
    ("kind", "double", "stored"),
    [
        ("auto", False, "index"),
        ("auto", True, "multi-hot"),
        ("multi-hot", False, "multi-hot"),
        ("index", False, "index"),
    ],
)
def test_labels_of_all_videos_end_in_one_kind(tmp_path: Path, kind: Any, double: bool, stored: str) -> None:
    one_hot = np.eye(3, dtype=np.uint8)
    wanted = {name: one_hot[_video(name)["labels"]] for name in NAMES}
    if double:
        wanted["c"][1] = (0, 1, 1)
    with _journal(tmp_path / "a.h5") as journal:
        for name in NAMES:  # one video comes with indices
            labels = _video(name)["labels"] if name == "a" else wanted[name]
            journal.add(name, **{**_video(name), "labels": labels})
        journal.finish(NAMES, label_kind=kind)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.label_kind == stored
        for name in NAMES:
            labels = store.labels(name)
            np.testing.assert_array_equal(one_hot[labels] if stored == "index" else labels, wanted[name])


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_compressed_features_come_back(tmp_path: Path, compression: str) -> None:
    with _journal(tmp_path / "a.h5", dtype="float16", compression=compression) as journal:
        journal.add("a", **_video("a"))
        journal.finish(["a"])
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.stored_dtype() == np.float16
        wanted = np.concatenate(list(_video("a")["features"].values()), axis=1)
        np.testing.assert_array_equal(store.features("a"), wanted.astype(np.float16).astype(np.float32))
