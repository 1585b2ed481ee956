"""Tables of segments of sound files: labels by the stated time and the file's own length, clips cut to the sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.audio import log_mel_preset
from coadtr.data import FeatureStore, import_features
from coadtr.errors import ConfigError, DataError, SourceError
from tests.data.importers.sounds_source import tone, write_wav

TELEPHONE = log_mel_preset("telephone")
ROWS = """file,start,end,label,split
yard/a.wav,0.30,0.80,bark,train
yard/a.wav,0.70,1.20,meow,train
b.wav,0.0,0.5,meow,test
c,0.1,0.4,bark,validation
"""
NONE_CHOSEN = {"test_fraction": 0.0, "validation_fraction": 0.0}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_wav(tmp_path / "sound" / "yard" / "a.wav", tone(2.0, 400))
    write_wav(tmp_path / "sound" / "b.wav", tone(0.9873, 600))
    write_wav(tmp_path / "sound" / "c.wav", tone(1.0, 800, rate_hz=16000), rate_hz=16000)
    write_wav(tmp_path / "sound" / "unnamed.wav", tone(0.5))
    (tmp_path / "events.csv").write_text(ROWS)
    return tmp_path / "events.csv"


def _import(table: Path, **options: Any) -> Any:
    return import_features(
        "audio-csv", table, table.parent / "out.h5", **{"audio": "sound", "front_end": "telephone", **options}
    )


@pytest.mark.parametrize(("frame_time", "before"), [("complete", 0.005), ("centre", 0.0125)])
def test_frames_have_the_labels_of_the_time_that_they_stand_for(table: Path, frame_time: str, before: float) -> None:
    report = _import(table, frame_time=frame_time)
    assert report.warnings == ("1 files have no row and are left out: 'unnamed.wav'",)
    with FeatureStore(table.parent / "out.h5") as store:
        assert store.class_names == ("background", "bark", "meow")
        assert (store.background, store.label_kind, store.attributes["frame_time"]) == (0, "multi-hot", frame_time)
        assert {video.name: (video.split, video.frames) for video in store.videos()} == {
            "a": ("train", TELEPHONE.count(16000)),
            "b": ("test", TELEPHONE.count(7898)),
            "c": ("validation", TELEPHONE.count(8000)),
        }
        segments = [(0.3, 0.8, 1), (0.7, 1.2, 2)]
        for frame, row in enumerate(store.labels("a")):
            at = TELEPHONE.complete_s(frame) - before
            expected = {label for start, end, label in segments if start - 1e-7 <= at < end - 1e-7} or {0}
            assert set(np.flatnonzero(row)) == expected, (frame, at)
        np.testing.assert_allclose(
            store.stored_features("a", "audio"),
            TELEPHONE.features((tone(2.0, 400) / 32768).astype(np.float32)),
            atol=1e-5,
        )


def test_segments_end_where_the_file_does(table: Path) -> None:
    # The last feature is complete at 0.985 s, the file is 0.9873 s long: the tolerance of a second counts from there.
    table.write_text("file,start,end,label\nb.wav,0.5,1.98,bark\nc.wav,0.2,0.5,bark\n")
    assert _import(table, **NONE_CHOSEN).summary.videos == 2
    table.write_text("file,start,end,label\nb.wav,0.5,1.99,bark\nc.wav,0.2,9,bark\n")
    with pytest.raises(SourceError) as caught:
        _import(table, **NONE_CHOSEN)
    assert list(caught.value.problems) == [
        "video 'b': row 2: ends at 1.99 s; the recording ends at 0.99 s: check file and unit, or say outside=cut",
        "video 'c': row 3: ends at 9 s; the recording ends at 1.00 s: check file and unit, or say outside=cut",
    ]
    assert _import(table, outside="cut", **NONE_CHOSEN).summary.videos == 2
    with FeatureStore(table.parent / "out.h5") as store:
        assert store.labels("c").tolist()[-1] == 1


def test_each_segment_can_be_a_recording(table: Path) -> None:
    _import(table, clips=True)
    with FeatureStore(table.parent / "out.h5") as store:
        assert (store.class_names, store.background, store.attributes["task"]) == (("bark", "meow"), None, "audio")
        assert {video.name: video.split for video in store.videos()} == {
            "a_0.3-0.8": "train", "a_0.7-1.2": "train", "b_0-0.5": "test", "c_0.1-0.4": "validation",
        }  # fmt: skip
        cut = (tone(2.0, 400) / 32768).astype(np.float32)[2400:6400]
        np.testing.assert_allclose(store.stored_features("a_0.3-0.8", "audio"), TELEPHONE.features(cut), atol=1e-5)
        assert set(store.labels("a_0.7-1.2").tolist()) == {1}


def test_clips_that_are_too_short_or_outside_are_named(table: Path) -> None:
    table.write_text("file,start,end,label\nb.wav,0.5,0.51,bark\nc.wav,0.2,9,meow\n")
    with pytest.raises(SourceError) as caught:
        _import(table, clips=True, **NONE_CHOSEN)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["video 'b_0.5-0.51'", "video 'c_0.2-9'"]
    assert "lasts 0.01 s, less than one feature" in caught.value.problems[0]


def test_files_without_rows(table: Path) -> None:
    report = _import(table, unlisted="background")
    assert any("1 files have no row and are background only: 'unnamed.wav'" in told for told in report.warnings)
    with FeatureStore(table.parent / "out.h5") as store:
        assert set(np.flatnonzero(store.labels("unnamed").any(axis=0))) == {0}
    with pytest.raises(DataError, match=r"1 files have no row: 'unnamed\.wav': add rows, or say unlisted=background"):
        _import(table, unlisted="error")


def test_a_table_without_training_files_trains_on_its_validation_files(table: Path) -> None:
    table.write_text(ROWS.replace(",train", ",validation"))
    told = "the table has no training files: its validation files train, as is done with THUMOS14"
    assert told in _import(table, validation_fraction=0.0).warnings
    with FeatureStore(table.parent / "out.h5") as store:
        assert {video.name: video.split for video in store.videos()} == {"a": "train", "b": "test", "c": "train"}


def test_files_without_a_split_train_and_validation_files_validate(table: Path) -> None:
    table.write_text(ROWS.replace(",train", ","))
    assert "1 files have no split and train: 'a'" in _import(table).warnings
    with FeatureStore(table.parent / "out.h5") as store:
        assert {video.name: video.split for video in store.videos()} == {"a": "train", "b": "test", "c": "validation"}


@pytest.mark.parametrize("setting", ["name", 1, "windows"])
def test_an_unknown_setting_of_the_front_end_is_named(table: Path, setting: object) -> None:
    with pytest.raises(ConfigError, match=f"log_mel: '{setting}' is no setting of a log-mel front end: use rate_hz"):
        _import(table, log_mel={setting: 2})


def test_rows_without_files(table: Path) -> None:
    with table.open("a") as file:
        file.write("d.wav,0,1,bark,train\n../../etc/passwd,0,1,bark,train\n")
    with pytest.raises(SourceError) as caught:
        _import(table)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["row 6", "row 7"]
    assert "say missing=skip" in caught.value.problems[0]
    report = _import(table, missing="skip")
    assert any("2 files of the table are not there" in told for told in report.warnings)


def test_messages_have_the_times_of_the_table(table: Path) -> None:
    with pytest.raises(
        DataError, match=r"row 2, segment 0\.3 to 0\.8 s and row 3, segment 0\.7 to 1\.2 s overlap: correct one"
    ):
        _import(table, overlap="error")


@pytest.mark.parametrize("clips", [False, True])
def test_a_segment_that_begins_after_the_end_is_no_rounding(table: Path, clips: bool) -> None:
    with table.open("a") as file:
        file.write("c,1.3,1.6,bark,validation\n")  # c.wav lasts 1 s; a second past it is let through
    with pytest.raises(DataError, match=r"row 6: begins at 1\.3 s; the recording ends at 1\.00 s: check file and unit"):
        _import(table, clips=clips)


def test_a_segment_cannot_be_two_recordings(table: Path) -> None:
    table.write_text(ROWS + "c,0.1,0.4,meow,validation\n")
    with pytest.raises(DataError, match=r"row 6: is the same segment as row 5: a recording has one class, drop one"):
        _import(table, clips=True)
    table.write_text(ROWS + "c,0.1000001,0.4,meow,validation\n")
    assert _import(table, clips=True).summary.videos == 5


def test_one_file_by_two_names_is_a_problem(table: Path) -> None:
    with table.open("a") as file:
        file.write("b,0.6,0.7,bark,test\n")
    with pytest.raises(DataError, match=r"file 'b\.wav' is named 'b\.wav' and 'b': write one of them"):
        _import(table)


def test_damaged_files_can_be_left_out(table: Path) -> None:
    (table.parent / "sound" / "b.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"video 'b': .* \(options.damaged=skip leaves such files out\)"):
        _import(table)
    report = _import(table, damaged="skip")
    assert any(told.startswith("video 'b' is damaged and left out: ") for told in report.warnings)
    assert report.summary.videos == 2


@pytest.mark.parametrize("clips", [False, True])
def test_a_wrong_row_is_no_damage_of_its_file(table: Path, clips: bool) -> None:
    with table.open("a") as file:
        file.write("b.wav,900,901,bark,test\n")
    with pytest.raises(DataError, match="900") as caught:
        _import(table, damaged="skip", clips=clips)
    assert "damaged=skip" not in str(caught.value)


def test_a_table_beside_its_files_and_its_missing_columns(table: Path) -> None:
    beside = table.parent / "sound" / "events.csv"
    beside.write_text(ROWS)
    assert import_features("audio-csv", beside, table.parent / "b.h5", front_end="telephone").summary.videos == 3
    beside.write_text(ROWS.replace("file,", "video,"))
    with pytest.raises(DataError, match=r"column 'file' is missing .*names the columns file, start, end, label"):
        import_features("audio-csv", beside, table.parent / "c.h5")
    with pytest.raises(DataError, match="nowhere: no such folder: give the one with the sound files"):
        _import(table, audio="nowhere")


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "rule": ({"rule": "nearest"}, "rule='nearest'"),
    "overlap": ({"overlap": "mix"}, "overlap='mix'"),
    "outside": ({"outside": "keep"}, "outside='keep'"),
    "unlisted": ({"unlisted": "maybe"}, "unlisted='maybe'"),
    "missing": ({"missing": "maybe"}, "missing='maybe'"),
    "damaged": ({"damaged": "maybe"}, "damaged='maybe'"),
    "frame_time": ({"frame_time": "maybe"}, "frame_time='maybe'"),
    "ignored": ({"ignored": "brk"}, "ignored='brk' is no class of the table: did you mean 'bark'"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_wrong_options(table: Path, kind: str) -> None:
    options, message = OPTIONS[kind]
    with pytest.raises(ConfigError, match=message):
        _import(table, **options)
