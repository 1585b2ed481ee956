"""The embedded data set, against the recordings that the package carries."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from coadtr.data import FeatureStore, class_counts, feature_statistics, import_features, write_exercises
from coadtr.data.exercises import join_recordings, load_recordings, locate_recordings
from coadtr.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("seglearn") is None, reason='needs seglearn: pip install "coadtr[demo]"'
)


@pytest.fixture(scope="module")
def exercises(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(write_exercises(tmp_path_factory.mktemp("exercises") / "exercises.h5"))


def test_streams_frames_and_splits(exercises: FeatureStore) -> None:
    videos = exercises.videos()
    assert [video.name for video in videos] == [f"subject_{subject:02d}" for subject in range(1, 11)]
    assert [video.split for video in videos] == ["train"] * 5 + ["validation"] + ["test"] * 4
    assert sum(video.frames for video in videos) == 24_351
    assert {video.rate_hz for video in videos} == {5.0}
    assert exercises.class_names == ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
    assert (exercises.background, exercises.ignored, exercises.streams) == (None, None, {"imu": 60})
    assert (class_counts(exercises, "test") > 0).all()


def test_every_recording_is_in_its_stream_once(exercises: FeatureStore) -> None:
    recordings = load_recordings()
    assert len(recordings.signals) == 140
    for subject in range(1, 11):
        name = f"subject_{subject:02d}"
        features, labels = exercises.features(name), exercises.labels(name)
        starts = {}
        for index in np.flatnonzero(recordings.subjects == subject):
            signal = recordings.signals[index].astype(np.float32)
            frames = len(signal) // 10
            first = np.flatnonzero((features == signal[:10].reshape(60)).all(axis=1))
            assert len(first) == 1
            starts[int(first[0])] = frames
            span = slice(first[0], first[0] + frames)
            np.testing.assert_array_equal(features[span].reshape(-1, 6), signal[: frames * 10])
            assert set(labels[span].tolist()) == {int(recordings.classes[index])}
        ends = [start + frames for start, frames in sorted(starts.items())]
        assert [0, *ends] == [*sorted(starts), len(features)]


def test_order_is_seeded(exercises: FeatureStore, tmp_path: Path) -> None:
    import_features("exercises", None, tmp_path / "again.h5")
    report = import_features("exercises", None, tmp_path / "other.h5", seed=1)
    assert (report.path, report.summary.class_names[0], report.warnings) == (tmp_path / "other.h5", "PEN", ())
    again, other = FeatureStore(tmp_path / "again.h5"), FeatureStore(tmp_path / "other.h5")
    assert again.fingerprint() == exercises.fingerprint()
    assert other.fingerprint() != exercises.fingerprint()
    np.testing.assert_array_equal(again.features("subject_03"), exercises.features("subject_03"))
    mean, std = feature_statistics(exercises, "train")
    other_mean, other_std = feature_statistics(other, "train")
    np.testing.assert_allclose(mean, other_mean, rtol=1e-5)
    np.testing.assert_allclose(std, other_std, rtol=1e-5)


def test_frames_do_not_span_recordings() -> None:
    features, labels = join_recordings([np.full((29, 6), 1.0), np.full((9, 6), 2.0), np.full((10, 6), 3.0)], [0, 1, 2])
    assert features[:, 0].tolist() == [1, 1, 3]
    assert labels.tolist() == [0, 0, 2]


def test_package_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from coadtr.data import write_exercises; write_exercises(sys.argv[1]); "
        "assert not [name for name in sys.modules if name.startswith('seglearn')]"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "e.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


def test_package_that_is_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.h5"
    path = locate_recordings()
    (tmp_path / "cut.npy").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="is not a whole pickle"):
        load_recordings(tmp_path / "cut.npy")
    np.save(tmp_path / "other.npy", np.array({"X": []}, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"is not the recordings of seglearn 1\.2\.5 \(KeyError\('y'\)\)"):
        load_recordings(tmp_path / "other.npy")
    with pytest.raises(ConfigError, match="seed=-1"):
        write_exercises(out, seed=-1)
    with pytest.raises(ConfigError, match="drop source"):
        import_features("exercises", tmp_path, out)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "coadtr\[demo\]"'):
        write_exercises(out)
    assert not out.exists()
