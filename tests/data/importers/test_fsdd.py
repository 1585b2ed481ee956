"""Spoken digits: recordings to classify, streams with gaps; splits never mix, labels keep to the stated time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.audio import LogMel, log_mel_preset
from coadtr.data import FeatureStore, import_features
from coadtr.data.importers.fsdd_stream import plan_fsdd_stream
from coadtr.data.sources.spoken_digits import DIGITS, find_spoken_digits
from coadtr.errors import ConfigError, DataError, UnsafeFileError
from tests.data.importers.sounds_source import RATE_HZ, tone, write_digits, write_digits_npz, write_wav

if TYPE_CHECKING:
    from pathlib import Path

TELEPHONE = log_mel_preset("telephone")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return write_digits(tmp_path / "recordings")


def test_folder_and_file_give_the_same_store(tmp_path: Path, recordings: Path) -> None:
    write_digits_npz(tmp_path / "fsdd.npz", recordings)
    import_features("fsdd", recordings, tmp_path / "a.h5")
    import_features("fsdd", tmp_path / "fsdd.npz", tmp_path / "b.h5")
    with FeatureStore(tmp_path / "a.h5") as one, FeatureStore(tmp_path / "b.h5") as other:
        assert [video.name for video in one.videos()] == [video.name for video in other.videos()]
        for video in one.videos():
            np.testing.assert_array_equal(
                one.stored_features(video.name, "audio"), other.stored_features(video.name, "audio")
            )


def test_every_utterance_is_a_recording_of_one_class(tmp_path: Path, recordings: Path) -> None:
    report = import_features("fsdd", recordings, tmp_path / "a.h5")
    assert report.warnings == ()
    with FeatureStore(tmp_path / "a.h5") as store:
        assert (store.class_names, store.background, dict(store.streams)) == (DIGITS, None, {"audio": 64})
        assert store.attributes["task"] == "audio"
        assert LogMel.recorded(store.extractors["audio"]) == TELEPHONE
        splits = {split: {video.name for video in store.videos(split)} for split in ("train", "validation", "test")}
        assert splits["test"] == {f"{digit}_theo_{take}" for digit in (0, 1, 7) for take in range(5)}
        assert splits["validation"] == {f"{digit}_theo_{take}" for digit in (0, 1, 7) for take in range(5, 10)}
        assert len(splits["train"]) == 6
        video = next(video for video in store.videos() if video.name == "7_theo_11")
        assert video.rate_hz == 100.0
        assert store.labels("7_theo_11").tolist() == [7] * video.frames
        expected = TELEPHONE.features((tone(0.1 + 0.11 + 0.14, 1700) / 32768).astype(np.float32))
        np.testing.assert_allclose(store.stored_features("7_theo_11", "audio"), expected, atol=1e-5)


def test_settings_of_the_front_end_reach_the_features(tmp_path: Path, recordings: Path) -> None:
    import_features("fsdd", recordings, tmp_path / "a.h5", log_mel={"bands": 20, "hop_s": 0.02}, validation_takes=2)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert dict(store.streams) == {"audio": 20}
        assert {video.rate_hz for video in store.videos()} == {50.0}
        assert len(store.videos("validation")) == 6
        assert LogMel.recorded(store.extractors["audio"]).hop_s == 0.02


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown preset": ({"front_end": "mfcc"}, "front_end='mfcc': use one of"),
    "unknown setting": ({"log_mel": {"mels": 3}}, "'mels' is no setting of a log-mel front end"),
    "text for a number": ({"log_mel": {"bands": "many"}}, "log_mel: bands='many'"),
    "beyond half the rate": ({"log_mel": {"high_hz": 5000}}, "high_hz=5000"),
    "negative takes": ({"validation_takes": -1}, "validation_takes=-1"),
    "unknown option": ({"colour": 1}, "has no option 'colour'"),
}


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("layout", ["fsdd", "fsdd-stream"])
def test_wrong_options(tmp_path: Path, recordings: Path, layout: str, kind: str) -> None:
    options, message = OPTIONS[kind]
    with pytest.raises(ConfigError, match=message) as caught:
        import_features(layout, recordings, tmp_path / "a.h5", **options)
    assert "\n" not in str(caught.value)


STREAM_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no utterances": ({"utterances": 0}, "utterances=0"),
    "gaps of days": ({"gap_max_s": 1e20}, r"gap_min_s=0.2, gap_max_s=1e\+20: give seconds, from 0 to 3600"),
    "gaps the wrong way round": ({"gap_min_s": 2.0}, r"gap_min_s=2.0, gap_max_s=1.5"),
    "loud noise": ({"noise_db": 3.0}, "noise_db=3.0"),
    "unknown time": ({"frame_time": "begin"}, "frame_time='begin'"),
    "negative seed": ({"seed": -1}, "seed=-1"),
    "unknown split": ({"streams": {"dev": 3}}, "unknown split"),
    "half a stream": ({"streams": {"test": 0.5}}, "give a whole number of streams"),
}


@pytest.mark.parametrize("kind", STREAM_OPTIONS)
def test_wrong_options_of_streams(recordings: Path, kind: str) -> None:
    options, message = STREAM_OPTIONS[kind]
    with pytest.raises(ConfigError, match=message):
        plan_fsdd_stream(recordings, **options)


def _damaged(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "samples": np.zeros(900, np.int16),
        "offsets": np.array([0, 400, 900]),
        "digit": np.array([3, 1]),
        "speaker": np.array(["theo", "theo"]),
        "index": np.array([0, 9]),
        "sample_rate": np.int64(8000),
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no speakers": ({"speaker": None}, "field 'speaker' is missing"),
    "float samples": ({"samples": np.zeros(900)}, "field 'samples' is float64"),
    "short offsets": ({"offsets": np.array([0, 900])}, "field 'offsets' has 2 entries for 2 utterances: give 3"),
    "offsets past the end": ({"offsets": np.array([0, 400, 901])}, "from 0 to 901: it must run from 0 to 900"),
    "empty utterance": ({"offsets": np.array([0, 0, 900])}, "utterance 0 has 0 samples"),
    "no digit": ({"digit": np.array([3, 11])}, "11 of utterance 1 is no digit"),
    "twice": ({"digit": np.array([3, 3]), "index": np.array([0, 0])}, "'3_theo_0' are there more than once"),
    "no rate": ({"sample_rate": np.int64(0)}, "field 'sample_rate' is 0"),
    "pickles": ({"speaker": np.array(["a", None])}, "holds pickled objects"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    changes, message = FAULTS[kind]
    np.savez(tmp_path / "fsdd.npz", **_damaged(**changes))
    with pytest.raises((DataError, UnsafeFileError), match=message):
        find_spoken_digits(tmp_path / "fsdd.npz")


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.wav files"):
        find_spoken_digits(tmp_path)
    write_wav(tmp_path / "seven.wav", tone(0.2))
    write_wav(tmp_path / "._0_theo_0.wav", tone(0.2))
    with pytest.raises(DataError, match=r"file 'seven\.wav' is not named DIGIT_SPEAKER_INDEX") as caught:
        find_spoken_digits(tmp_path)
    assert "._0" not in str(caught.value)
    (tmp_path / "seven.wav").unlink()
    write_wav(tmp_path / "0_theo_9.wav", tone(0.01))
    write_wav(tmp_path / "0_theo_10.wav", tone(0.2))
    with pytest.raises(DataError, match=r"video '0_theo_9': lasts 0\.01 s, less than one feature of 0\.025 s"):
        import_features("fsdd", tmp_path, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def test_streams_hold_each_utterance_once_and_the_splits_apart(recordings: Path) -> None:
    plan = plan_fsdd_stream(recordings, utterances=4)
    digits = find_spoken_digits(recordings)
    members = digits.splits(5)
    heard: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for video in plan.videos:
        heard[video.split] += video.read.args[2]  # type: ignore[attr-defined]
    assert {split: sorted(places) for split, places in heard.items()} == members
    assert [video.name for video in plan.videos if video.split == "train"] == ["train_000", "train_001"]
    assert (plan.background, plan.class_names[0], "task" in plan.attributes) == (0, "background", False)


def test_more_streams_hear_utterances_again_in_another_order(recordings: Path) -> None:
    plan = plan_fsdd_stream(recordings, utterances=6, streams={"train": 3, "validation": 0, "test": 1})
    heard = [(video.split, video.read.args[2]) for video in plan.videos]  # type: ignore[attr-defined]
    assert [split for split, _ in heard] == ["train"] * 3 + ["test"]
    training = [places for split, places in heard if split == "train"]
    assert len({tuple(places) for places in training}) == 3
    assert {tuple(sorted(places)) for places in training} == {tuple(sorted(training[0]))}
    again = plan_fsdd_stream(recordings, utterances=6, streams={"train": 3, "validation": 0, "test": 1})
    assert heard == [(video.split, video.read.args[2]) for video in again.videos]  # type: ignore[attr-defined]
    other = plan_fsdd_stream(recordings, utterances=6, streams={"train": 3, "validation": 0, "test": 1}, seed=1)
    assert heard != [(video.split, video.read.args[2]) for video in other.videos]  # type: ignore[attr-defined]


@pytest.mark.parametrize("frame_time", ["complete", "centre"])
def test_labels_of_streams_tell_what_is_said_when(recordings: Path, frame_time: str) -> None:
    plan = plan_fsdd_stream(recordings, utterances=9, noise_db=None, frame_time=frame_time)
    video = plan.videos[0]
    features, labels = video.read()
    joining = video.read.func.__self__  # type: ignore[attr-defined]
    samples, rate, segments = joining.join(np.random.default_rng([0, 0, 0]), video.read.args[2])  # type: ignore[attr-defined]
    assert rate == RATE_HZ
    for segment in segments:  # where digits are said there is sound, and nowhere else
        said = samples[round(segment.start * rate) : round(segment.end * rate)]
        assert np.abs(said).max() > 0.4
        samples[round(segment.start * rate) : round(segment.end * rate)] = 0
    assert not samples.any()
    for frame, label in enumerate(labels):
        known = TELEPHONE.complete_s(frame)
        # The middle of the 10 ms that the frame stands for.
        at = known - 0.005 if frame_time == "complete" else known - 0.0125
        said = [segment.label for segment in segments if segment.start <= at < segment.end]
        edges = [edge for segment in segments for edge in segment[:2]]
        if min(abs(at - edge) for edge in edges) > 1e-6:
            assert label == (said[0] if said else 0), (frame, at)
    assert len(features["audio"]) == len(labels)
    gaps = np.array([b.start - a.end for a, b in itertools.pairwise(segments)])
    assert gaps.min() >= 0.2 - 1 / rate
    assert gaps.max() <= 1.5 + 1 / rate


def test_noise_lies_over_the_whole_stream_at_the_level_asked_for(recordings: Path) -> None:
    quiet, loud = (plan_fsdd_stream(recordings, noise_db=level).videos[0].read for level in (None, -40.0))
    samples, noisy = (
        read.func.__self__.join(np.random.default_rng(3), read.args[2])[0]  # type: ignore[attr-defined]
        for read in (quiet, loud)
    )
    noise = (noisy - samples).astype(np.float64)
    assert 20 * np.log10(noise.std()) == pytest.approx(-40, abs=0.2)
    assert abs(noise[samples == 0].std() / noise[samples != 0].std() - 1) < 0.05


def test_streams_are_the_same_whoever_reads_them_first(tmp_path: Path, recordings: Path) -> None:
    plan = plan_fsdd_stream(recordings, utterances=4)
    last, first = plan.videos[-1].read()[0]["audio"], plan.videos[0].read()[0]["audio"]
    import_features("fsdd-stream", recordings, tmp_path / "a.h5", utterances=4)
    with FeatureStore(tmp_path / "a.h5") as store:
        np.testing.assert_array_equal(store.stored_features(plan.videos[0].name, "audio"), first)
        np.testing.assert_array_equal(store.stored_features(plan.videos[-1].name, "audio"), last)
        assert "task" not in store.attributes
        assert (store.label_kind, store.attributes["frame_time"]) == ("index", "complete")


def test_the_real_data_set(shared_data: Path) -> None:
    source = shared_data / "fsdd" / "fsdd.npz"
    digits = find_spoken_digits(source)
    assert {split: len(places) for split, places in digits.splits(5).items()} == {
        "train": 2400, "validation": 300, "test": 300,
    }  # fmt: skip
    plan = plan_fsdd_stream(source, utterances=50)
    assert [sum(video.split == split for video in plan.videos) for split in ("train", "validation", "test")] == [
        48,
        6,
        6,
    ]
    features, labels = plan.videos[-1].read()
    assert features["audio"].shape == (len(labels), 64)
    assert set(np.unique(labels)) == set(range(11))
    spoken, silent = features["audio"][labels > 0].mean(), features["audio"][labels == 0].mean()
    assert spoken > silent + 0.5
