"""A folder of sound files for each class: names, splits by lists and by seed, damaged files, embeddings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.audio import LogMel, log_mel_preset
from coadtr.data import FeatureStore, import_features
from coadtr.data.importers.audio_folders import plan_audio_folders
from coadtr.data.importers.recording_splits import stratified_splits
from coadtr.data.sources.named_files import NamedFiles, recording_names
from coadtr.errors import ConfigError, DataError, SourceError
from tests.data.importers.sounds_source import tone, write_wav

GENRES = ("blues", "jazz", "metal")
BRIEF: dict[str, Any] = {"front_end": "telephone"}


@pytest.fixture
def genres(tmp_path: Path) -> Path:
    """Write a folder as GTZAN has it, and what systems leave behind."""
    folder = tmp_path / "genres"
    for place, genre in enumerate(GENRES):
        for number in range(8):
            write_wav(folder / genre / f"{genre}.{number:05d}.wav", tone(0.1 + 0.01 * number, 300 * (place + 1)))
    (folder / "blues" / ".DS_Store").write_bytes(b"\0")
    (folder / "blues" / "._blues.00000.wav").write_bytes(b"\0")
    (folder / "jazz" / "notes.txt").write_text("by hand")
    return folder


def _lists(folder: Path, **lists: list[str]) -> dict[str, str]:
    for split, lines in lists.items():
        (folder / f"{split}_filtered.txt").write_text("\n".join(lines) + "\n")
    return {split: f"{split}_filtered.txt" for split in lists}


def test_every_file_is_a_recording_of_the_class_of_its_folder(tmp_path: Path, genres: Path) -> None:
    report = import_features("audio-folders", genres, tmp_path / "a.h5", **BRIEF)
    assert report.warnings == ()
    with FeatureStore(tmp_path / "a.h5") as store:
        assert (store.class_names, store.background, dict(store.streams)) == (GENRES, None, {"audio": 64})
        assert store.attributes["task"] == "audio"
        assert LogMel.recorded(store.extractors["audio"]) == log_mel_preset("telephone")
        assert len(store.videos()) == 24
        for video in store.videos():
            genre = video.name.split(".")[0]
            assert store.labels(video.name).tolist() == [GENRES.index(genre)] * video.frames
            assert video.frames == log_mel_preset("telephone").count(800 + 80 * int(video.name.split(".")[1]))


def test_a_seeded_split_takes_the_same_part_of_each_class(genres: Path) -> None:
    plans = [plan_audio_folders(genres, seed=seed, test_fraction=0.25) for seed in (0, 0, 1)]
    found = [{video.name: video.split for video in plan.videos} for plan in plans]
    assert found[0] == found[1] != found[2]
    counts = Counter((name.split(".")[0], split) for name, split in found[0].items())
    assert all(counts[genre, "test"] == 2 and counts[genre, "validation"] == 1 for genre in GENRES)


def test_choices_in_a_class_do_not_hang_on_other_classes() -> None:
    labels = {f"{label}{index}": label for label in "xyz" for index in range(10)}
    some = {name: label for name, label in labels.items() if label != "y"}
    fractions = {"test_fraction": 0.3, "validation_fraction": 0.2, "seed": 4}
    every, _, warnings = stratified_splits(labels, {}, **fractions)  # type: ignore[arg-type]
    fewer, _, _ = stratified_splits(some, {}, **fractions)  # type: ignore[arg-type]
    assert warnings == []
    assert {name: every[name] for name in some} == fewer
    _, _, warnings = stratified_splits({"a": "rare", **labels}, {}, **fractions)  # type: ignore[arg-type]
    assert warnings == [
        "class 'rare' has 1 recordings to train on, none is set aside: test",
        "class 'rare' has 1 recordings to train on, none is set aside: validation",
    ]


def test_lists_as_they_are_published_give_the_splits(tmp_path: Path, genres: Path) -> None:
    splits = _lists(
        genres,
        train=[*(f"blues/blues.{n:05d}.wav" for n in range(4)), *(f"jazz.{n:05d}.wav" for n in range(4)), ""],
        validation=["# made by hand", "blues/blues.00005.au", "GTZAN/jazz/jazz.00005.wav\t1"],
        test=["blues\\blues.00006.wav", "jazz.00006", "metal/metal.00000.wav"],
    )
    report = import_features("audio-folders", genres, tmp_path / "a.h5", splits=splits, **BRIEF)
    assert any("11 recordings are in no list and are left out: 'blues.00004'" in told for told in report.warnings)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert {video.name for video in store.videos("test")} == {"blues.00006", "jazz.00006", "metal.00000"}
        assert {video.name for video in store.videos("validation")} == {"blues.00005", "jazz.00005"}
        assert len(store.videos("train")) == 8
        assert store.attributes["lists"] == {split: f"{split}_filtered.txt" for split in splits}


def test_what_no_list_gives_is_validated_by_seed(tmp_path: Path, genres: Path) -> None:
    every = [f"{genre}.{number:05d}" for genre in GENRES for number in range(8)]
    splits = _lists(genres, train=every[::2], test=every[1::2])
    report = import_features("audio-folders", genres, tmp_path / "a.h5", splits=splits, **BRIEF)
    assert any(told.startswith("no list gives validation recordings") for told in report.warnings)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert {video.name for video in store.videos("test")} == set(every[1::2])
        assert Counter(video.name.split(".")[0] for video in store.videos("validation")) == dict.fromkeys(GENRES, 1)


def test_all_faults_of_lists_are_named(tmp_path: Path, genres: Path) -> None:
    write_wav(genres / "metal" / "blues.00001.wav", tone(0.2))
    splits = _lists(
        genres,
        train=["blues.00000.wav", "blues.00001.wav", "jazz/blues.00002.wav", "rock.00001.wav", "jazz.00000"],
        test=["jazz.00000", "metal.00000"],
    )
    with pytest.raises(SourceError) as caught:
        import_features("audio-folders", genres, tmp_path / "a.h5", splits=splits, **BRIEF)
    assert list(caught.value.problems) == [
        "train_filtered.txt, line 2: 'blues.00001.wav' may be any of 'blues/blues.00001.wav', "
        "'metal/blues.00001.wav': name it with its folder, one file of a name in each",
        "train_filtered.txt, line 3: there is no file 'jazz/blues.00002.wav' in genres: add it, or drop the entry",
        "train_filtered.txt, line 4: there is no file 'rock.00001.wav' in genres: add it, or drop the entry",
        "test_filtered.txt, line 1: 'jazz.00000' is also in the list of train: a recording is in one split, drop one",
    ]


def test_damaged_files_are_named_or_left_out(tmp_path: Path, genres: Path) -> None:
    whole = (genres / "jazz" / "jazz.00003.wav").read_bytes()
    (genres / "jazz" / "jazz.00003.wav").write_bytes(whole[: len(whole) // 2])
    (genres / "jazz" / "jazz.00005.wav").write_bytes(b"this is no sound")
    write_wav(genres / "metal" / "metal.00007.wav", tone(0.01))
    with pytest.raises(DataError) as caught:
        import_features("audio-folders", genres, tmp_path / "a.h5", **BRIEF)
    for name in ("jazz.00003", "jazz.00005", "metal.00007"):
        assert f"video '{name}': " in str(caught.value)
    # The remedy, once, and each path.
    assert str(caught.value).count("options.damaged=skip leaves such files out") == 1
    assert str(caught.value).count("metal.00007.wav: lasts 0.01 s") == 1
    report = import_features("audio-folders", genres, tmp_path / "a.h5", damaged="skip", **BRIEF)
    assert report.summary.videos == 21
    told = [warning for warning in report.warnings if "is damaged and left out" in warning]
    assert [warning.split("'")[1] for warning in told] == ["jazz.00003", "jazz.00005", "metal.00007"]
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.attributes["left_out"] == {"videos": 3, "first": ["jazz.00003", "jazz.00005", "metal.00007"]}
    dry = import_features("audio-folders", genres, tmp_path / "b.h5", damaged="skip", dry_run=True, **BRIEF)
    assert (dry.summary.videos, dry.warnings) == (21, report.warnings)


def test_a_folder_of_damaged_files_alone_is_an_error(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "s" / label).mkdir(parents=True)
        (tmp_path / "s" / label / f"{label}.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"video 'cat': .* video 'dog': "):
        import_features("audio-folders", tmp_path / "s", tmp_path / "a.h5", damaged="skip", test_fraction=0.0)
    assert not (tmp_path / "a.h5").exists()


def test_embeddings_take_the_place_of_sound(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for label in ("cat", "dog"):
        for number in range(5):
            path = tmp_path / "e" / label / f"{label}{number}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays[path.stem] = rng.standard_normal((10 + number, 128)).astype(np.float32)
            np.save(path, arrays[path.stem])
    with pytest.raises(ConfigError, match="rate_hz must be given"):
        import_features("audio-folders", tmp_path / "e", tmp_path / "a.h5")
    import_features("audio-folders", tmp_path / "e", tmp_path / "a.h5", rate_hz=1.04)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert (dict(store.streams), store.extractors) == ({"audio": 128}, {})
        assert {video.rate_hz for video in store.videos()} == {1.04}
        for name, array in arrays.items():
            np.testing.assert_array_equal(store.stored_features(name, "audio"), array)
    np.save(tmp_path / "e" / "dog" / "dog0.npy", np.ones((10, 64), np.float32))
    with pytest.raises(DataError, match="video 'dog0'"):
        import_features("audio-folders", tmp_path / "e", tmp_path / "b.h5", rate_hz=1.04)
    write_wav(tmp_path / "e" / "dog" / "bark.wav", tone(1.0))
    with pytest.raises(DataError, match=r"holds 10 \.npy files and 1 sound files: keep those of one kind"):
        import_features("audio-folders", tmp_path / "e", tmp_path / "b.h5", rate_hz=1.04)


def test_folders_without_sound_and_files_without_class_are_told(tmp_path: Path, genres: Path) -> None:
    (genres / "lists").mkdir()
    write_wav(genres / "loose.wav", tone(0.2))
    report = import_features("audio-folders", genres, tmp_path / "a.h5", **BRIEF)
    assert report.warnings == (
        "folder 'lists' holds no sound file and is no class: remove it, or add files",
        "1 files are in no folder of a class and are left out: 'loose.wav'",
    )


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "damaged": ({"damaged": "drop"}, "damaged='drop': use one of 'error', 'skip'"),
    "rate of sound": ({"rate_hz": 2.0}, "rate_hz=2.0: is for .npy files, and there are none"),
    "no rate": ({"rate_hz": -1.0}, "rate_hz=-1.0"),
    "fraction": ({"test_fraction": 1.5}, "test_fraction=1.5"),
    "seed": ({"seed": -1}, "seed=-1"),
    "unknown split": ({"splits": {"dev": "a.txt", "train": "b.txt"}}, "unknown split"),
    "no training list": ({"splits": {"test": "a.txt"}}, "has no list of the split train"),
    "list of numbers": ({"splits": {"train": 3}}, "give the path of a list"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_wrong_options(tmp_path: Path, genres: Path, kind: str) -> None:
    options, message = OPTIONS[kind]
    with pytest.raises(ConfigError, match=message):
        import_features("audio-folders", genres, tmp_path / "a.h5", **options)


def test_folders_of_splits_are_no_classes(tmp_path: Path) -> None:
    for name in ("train", "Test"):
        write_wav(tmp_path / "sound" / name / "dog" / f"{name}.wav", tone(0.5))
    with pytest.raises(DataError, match=r"its folders 'Test', 'train' are splits, not classes: put the folders"):
        import_features("audio-folders", tmp_path / "sound", tmp_path / "out.h5")


def test_lists_and_folders_that_are_not_there(tmp_path: Path, genres: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt: no such file: give a list"):
        import_features("audio-folders", genres, tmp_path / "a.h5", splits={"train": "train.txt"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no folder with sound files"):
        import_features("audio-folders", tmp_path / "empty", tmp_path / "a.h5")


def test_names_are_never_joined_into_paths(tmp_path: Path) -> None:
    files = NamedFiles(tmp_path, [tmp_path / "cat" / "a.wav"], (".wav",))
    for name in ("../../etc/passwd", "/etc/passwd", "..", "", "."):
        with pytest.raises(DataError, match="there is no file"):
            files.find(name)
    assert files.find("../cat/a.wav") == tmp_path / "cat" / "a.wav"


def test_names_of_recordings_are_their_own() -> None:
    folder = Path("sounds")
    files = [folder / name for name in ("dog/1.wav", "cat/1.wav", "cat/1.mp3", "cat/2.wav")]
    assert list(recording_names(files, folder).values()) == ["dog_1.wav", "cat_1.wav", "cat_1.mp3", "2"]
