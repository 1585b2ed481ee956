"""The journal and the folder it lies in: every place where a kill or a disk can cut them off."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.errors import CheckpointError, ConfigError, StorageError
from coadtr.serving.journal import Entry, Journal, read_journal
from coadtr.serving.keeping import Keeper

CHANNELS = 3


def entries_of(count: int) -> list[Entry]:
    """Make entries of all kinds."""
    rng = np.random.default_rng(count)
    made = []
    for index in range(count):
        frame = None if index % 5 == 4 else rng.normal(size=CHANNELS).astype(np.float32)
        time = None if index % 3 or frame is None else index / 7
        made.append(Entry(f"door-{index % 2}", index, frame, time))
    return made


def same(found: Sequence[Entry], wanted: Sequence[Entry]) -> bool:
    """Whether entries say the same, bit for bit."""
    return [entry.to_bytes() for entry in found] == [entry.to_bytes() for entry in wanted]


def write(path: Path, entries: Sequence[Entry]) -> Path:
    """Write a journal."""
    journal = Journal(path, CHANNELS)
    journal.append(entries)
    journal.close()
    assert journal.size == path.stat().st_size
    return path


@pytest.mark.parametrize("fsync", [False, True])
def test_what_is_appended_is_read_even_if_nobody_closed_the_file(tmp_path: Path, fsync: bool) -> None:
    entries = entries_of(12)
    journal = Journal(tmp_path / "journal", CHANNELS, fsync=fsync)
    assert read_journal(journal.path, CHANNELS) == []
    journal.append(entries[:5])
    journal.append([])
    journal.append(entries[5:])
    found = read_journal(journal.path, CHANNELS)
    journal.close()
    assert same(found, entries)
    assert found[0].frame is not None
    assert found[0].frame.dtype == np.float32


def test_a_journal_that_was_cut_off_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    entries = entries_of(4)
    whole = write(tmp_path / "journal", entries).read_bytes()
    header = whole.index(b"\n") + 1
    ends = np.cumsum([header, *(len(entry.to_bytes()) for entry in entries)]).tolist()
    for size in range(len(whole) + 1):
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:size])
        complete = sum(end <= size for end in ends[1:])
        if size not in ends:
            with pytest.raises(CheckpointError, match="is damaged at byte"):
                read_journal(cut, CHANNELS)
        assert same(read_journal(cut, CHANNELS, mend=True), entries[:complete])
        if size >= header:
            assert cut.stat().st_size == ends[complete], "mended: the next reader finds whole entries alone"
            assert same(read_journal(cut, CHANNELS), entries[:complete])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_is_taken_for_a_frame(data: st.DataObject) -> None:
    entries = entries_of(6)
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"coadtr-journal-{os.getpid()}"  # noqa: S108
    try:
        whole = bytearray(write(path, entries).read_bytes())
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(whole)
        with pytest.raises(CheckpointError, match="is damaged at byte"):
            read_journal(path, CHANNELS)
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("text", [b"", b"x", b"{}\n", b"[1, 2]\n", b'{"format": "coadtr-journal", "version": 2}\n'])
def test_what_is_no_journal_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(text)
    with pytest.raises(CheckpointError, match="does not begin as a journal of frames of 3 values") as caught:
        read_journal(path, CHANNELS)
    assert "\n" not in str(caught.value)


def test_a_journal_of_other_frames_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "journal", entries_of(2))
    with pytest.raises(CheckpointError, match="does not begin as a journal of frames of 4 values"):
        read_journal(path, 4, mend=True)


class FullDisk:
    """A file of which the disk takes so many more bytes."""

    def __init__(self, file: object, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: memoryview) -> int:
        """Take as much as there is room for."""
        if self._room == 0:
            raise OSError(28, "No space left on device")
        taken: int = self._file.write(data[: self._room])  # type: ignore[attr-defined]
        self._room -= taken
        return taken

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_a_full_disk_leaves_a_whole_journal(tmp_path: Path) -> None:
    entries = entries_of(3)
    journal = Journal(tmp_path / "journal", CHANNELS)
    journal.append(entries[:1])
    size = journal.size
    journal._file = FullDisk(journal._file, 30)  # type: ignore[assignment]
    with pytest.raises(StorageError, match="cannot be written \\(No space left on device\\); free some space"):
        journal.append(entries[1:])
    assert journal.path.stat().st_size == journal.size == size
    assert same(read_journal(journal.path, CHANNELS), entries[:1])
    journal.close()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file cannot be used .*: name a folder that you may write"):
        Keeper(tmp_path / "file", CHANNELS)
    with pytest.raises(StorageError, match="no/journal: cannot be written"):
        Journal(tmp_path / "no/journal", CHANNELS)


def test_a_folder_has_one_server_at_a_time(tmp_path: Path) -> None:
    first = Keeper(tmp_path, CHANNELS)
    with pytest.raises(ConfigError, match="is in use by another server: give each a folder of its own"):
        Keeper(tmp_path, CHANNELS)
    first.close()
    Keeper(tmp_path, CHANNELS).close()


def files(folder: Path) -> list[str]:
    """List what a keeper wrote."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def recovered(folder: Path) -> tuple[str | None, list[Entry]]:
    """Recover as a new server does: the snapshot's text, and the entries after it."""
    keeper = Keeper(folder, CHANNELS)
    texts: list[str] = []
    entries = list(keeper.recover(lambda path: texts.append(path.read_text())))
    keeper.close()
    return (texts[0] if texts else None), entries


def test_a_snapshot_takes_the_place_of_the_journal_before_it(tmp_path: Path) -> None:
    entries = entries_of(9)
    keeper = Keeper(tmp_path, CHANNELS)
    assert list(keeper.recover(lambda path: pytest.fail(f"there is no {path}"))) == []
    assert (keeper.whole, keeper.journal_bytes) == (False, 0)
    keeper.append(entries[:1])  # before the first snapshot nothing is kept
    keeper.begin(lambda path: path.write_text("one"))
    assert keeper.whole
    keeper.append(entries[:4])
    keeper.begin(lambda path: path.write_text("two"))
    keeper.append(entries[4:])
    assert files(tmp_path) == ["journal-00000002.bin", "snapshot-00000002.npz"]
    keeper.close()
    text, found = recovered(tmp_path)
    assert text == "two"
    assert same(found, entries[4:])


def test_a_kill_between_two_files_loses_nothing(tmp_path: Path) -> None:
    """Copy the folder at each moment of a change of snapshots, and recover each copy."""
    entries = entries_of(8)
    keeper = Keeper(tmp_path / "kept", CHANNELS)
    keeper.begin(lambda path: path.write_text("one"))
    keeper.append(entries[:4])
    copies: list[tuple[str, dict[str, bytes]]] = []

    def copy(expected: str) -> None:
        copies.append((expected, {name: (keeper.folder / name).read_bytes() for name in files(keeper.folder)}))

    def snapshot(path: Path) -> None:
        copy("one")
        path.with_name(f".{path.name}.x.part").write_text("tw")
        copy("one")
        path.with_name(f".{path.name}.x.part").rename(path)
        path.write_text("two")
        copy("two")

    copy("one")
    keeper.begin(snapshot)
    copy("two")
    keeper.append(entries[4:])
    copy("two and more")
    keeper.close()
    for index, (expected, contents) in enumerate(copies):
        folder = tmp_path / f"copy-{index}"
        folder.mkdir()
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        text, found = recovered(folder)
        assert text == expected.split()[0]
        wanted = {"one": entries[:4], "two": [], "two and more": entries[4:]}[expected]
        assert same(found, wanted)


def test_a_kill_while_a_snapshot_is_written_beside_the_frames_loses_nothing(tmp_path: Path) -> None:
    """Copy the folder at each moment between the turn of the journal and the removal of what is old."""
    entries = entries_of(12)
    keeper = Keeper(tmp_path / "kept", CHANNELS)
    keeper.begin(lambda path: path.write_text("one"))
    keeper.append(entries[:3])
    copies: list[tuple[str, int, int, dict[str, bytes]]] = []

    def copy(expected: str, first: int, stop: int) -> None:
        contents = {name: (keeper.folder / name).read_bytes() for name in files(keeper.folder)}
        copies.append((expected, first, stop, contents))

    path = keeper.turn()
    copy("one", 0, 3)
    keeper.append(entries[3:5])
    copy("one", 0, 5)
    part = path.with_name(f".{path.name}.x.part")
    part.write_text("tw")
    keeper.append(entries[5:7])
    copy("one", 0, 7)
    part.write_text("two")
    part.rename(path)
    copy("two", 3, 7)
    keeper.append(entries[7:9])
    copy("two", 3, 9)
    keeper.settle(path)
    assert files(keeper.folder) == ["journal-00000002.bin", "snapshot-00000002.npz"]
    keeper.append(entries[9:])
    copy("two", 3, 12)
    keeper.close()
    for index, (expected, first, stop, contents) in enumerate(copies):
        folder = tmp_path / f"copy-{index}"
        folder.mkdir()
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        text, found = recovered(folder)
        assert text == expected
        assert same(found, entries[first:stop])
        assert not list(folder.glob(".*.part"))


def test_a_snapshot_beside_the_frames_that_the_disk_refuses_leaves_all_journals(tmp_path: Path) -> None:
    entries = entries_of(9)
    keeper = Keeper(tmp_path, CHANNELS)
    keeper.begin(lambda path: path.write_text("one"))
    keeper.append(entries[:3])
    for index in (1, 2):  # and nothing is written
        keeper.turn()
        keeper.append(entries[3 * index : 3 * index + 3])
    text, found = recovered_copy(tmp_path)
    assert text == "one"
    assert same(found, entries)
    keeper.begin(lambda path: path.write_text("two"))
    assert files(tmp_path) == ["copy", "journal-00000004.bin", "snapshot-00000004.npz"]
    keeper.close()


def test_a_snapshot_that_is_late_takes_no_place(tmp_path: Path) -> None:
    entries = entries_of(6)
    keeper = Keeper(tmp_path, CHANNELS)
    keeper.begin(lambda path: path.write_text("one"))
    late = keeper.turn()
    keeper.append(entries[:3])
    keeper.begin(lambda path: path.write_text("three"))  # at once, while the other is being written
    keeper.append(entries[3:])
    late.write_text("two")
    keeper.settle(late)
    keeper.close()
    text, found = recovered(tmp_path)
    assert text == "three"
    assert same(found, entries[3:])


def test_a_snapshot_that_the_disk_refuses_leaves_the_last_one(tmp_path: Path) -> None:
    entries = entries_of(6)
    keeper = Keeper(tmp_path, CHANNELS)
    keeper.begin(lambda path: path.write_text("one"))
    keeper.append(entries[:3])

    def refuse(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"snapshot-00000002.npz: cannot be written .*No space left on device"):
        keeper.begin(refuse)
    keeper.append(entries[3:])
    keeper.close()
    text, found = recovered(tmp_path)
    assert text == "one"
    assert same(found, entries)


def test_after_a_hole_nothing_is_written_until_the_next_snapshot(tmp_path: Path) -> None:
    entries = entries_of(6)
    keeper = Keeper(tmp_path, CHANNELS)
    keeper.begin(lambda path: path.write_text("one"))
    keeper.append(entries[:2])
    assert keeper._journal is not None
    keeper._journal._file = FullDisk(keeper._journal._file, 7)  # type: ignore[assignment]
    with pytest.raises(StorageError):
        keeper.append(entries[2:4])
    assert not keeper.whole
    keeper.append(entries[4:])
    text, found = recovered_copy(tmp_path)
    assert (text, len(found)) == ("one", 2)
    keeper.begin(lambda path: path.write_text("two"))
    keeper.append(entries[4:])
    keeper.close()
    text, found = recovered(tmp_path)
    assert text == "two"
    assert same(found, entries[4:])


def recovered_copy(folder: Path) -> tuple[str | None, list[Entry]]:
    """Recover a copy of a folder that a keeper still holds."""
    copy = folder / "copy"
    copy.mkdir()
    for name in files(folder):
        if name != "copy":
            (copy / name).write_bytes((folder / name).read_bytes())
    return recovered(copy)


def test_a_journal_that_is_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, CHANNELS)
    keeper.begin(lambda path: path.write_text("one"))
    keeper.append(entries_of(2))
    keeper.close()
    write(tmp_path / "journal-00000002.bin", entries_of(1))
    damaged = tmp_path / "journal-00000001.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    keeper = Keeper(tmp_path, CHANNELS)
    with pytest.raises(CheckpointError, match=r"journal-00000001.bin: is damaged at byte \d+ .*; move its folder away"):
        list(keeper.recover(Path.read_bytes))
    keeper.close()
