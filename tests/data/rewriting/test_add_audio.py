"""Sound beside video: a frame gets what is complete by its end, as an obvious loop has it, and never the future."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.audio import log_mel_preset
from coadtr.data import FeatureStore, StoreJournal, StoreWriter
from coadtr.data.rewriting.add_audio import add_audio
from coadtr.data.rewriting.alignment import ALIGNMENTS, align_features
from coadtr.errors import ConfigError, DataError
from tests.data.importers.sounds_source import tone, write_wav

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VIDEOS = {"a": (25, 5.0), "b": (12, 5.0), "c": (70, 29.97)}


def _obvious(
    features: NDArray[Any], rate_hz: float, first_s: float, video: tuple[int, float], align: str
) -> NDArray[np.float64]:
    """Go through frames and features one by one."""
    frames, frame_rate_hz = video
    out = np.zeros((frames, features.shape[1]))
    taken = -1
    for frame in range(frames):
        new = []
        while taken + 1 < len(features) and first_s + (taken + 1) / rate_hz <= (frame + 1) / frame_rate_hz + 1e-9:
            taken += 1
            new.append(features[taken].astype(np.float64))
        if align == "mean" and new:
            out[frame] = np.mean(new, axis=0)
        elif taken >= 0:
            out[frame] = features[taken]
    return out


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Return a store of three videos at two rates."""
    rng = np.random.default_rng(0)
    with StoreWriter(
        tmp_path / "videos.h5",
        class_names=["background", "cut"],
        background=0,
        streams={"rgb": 4},
        attributes={"origin": "made for a test", "extractors": {"rgb": {"backbone": "resnet50"}}},
    ) as writer:
        for name, (frames, rate) in VIDEOS.items():
            features = {"rgb": rng.standard_normal((frames, 4)).astype(np.float16)}
            writer.add(name, split="test", rate_hz=rate, features=features, labels=rng.integers(0, 2, frames))
    return tmp_path / "videos.h5"


def _sounds(folder: Path, *, seconds: float = 0.0) -> Path:
    for name, (frames, rate) in VIDEOS.items():
        write_wav(folder / f"{name}.wav", tone(frames / rate + seconds, 300 + 100 * len(name)))
    return folder


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize(
    ("rate_hz", "first_s", "frame_rate_hz"),
    [
        (100.0, 0.025, 5.0),
        (100.0, 0.01, 25.0),
        (1 / 0.96, 0.975, 4.0),
        (5.0, 0.2, 5.0),
        (2.0, 3.3, 29.97),
        (3.0, 0.0, 7.0),
    ],
)
def test_alignment_is_that_of_an_obvious_loop(rate_hz: float, first_s: float, frame_rate_hz: float, align: str) -> None:
    rng = np.random.default_rng(1)
    for count, frames in ((1, 40), (200, 40), (37, 200), (2000, 60)):
        features = rng.standard_normal((count, 3)).astype(np.float32)
        found = align_features(
            features, rate_hz=rate_hz, first_s=first_s, frames=frames, frame_rate_hz=frame_rate_hz, align=align
        )
        expected = _obvious(features, rate_hz, first_s, (frames, frame_rate_hz), align)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found.dtype == np.float32


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_no_frame_hears_the_future(align: str) -> None:
    rng = np.random.default_rng(2)
    features = rng.standard_normal((500, 2)).astype(np.float32)
    times = {"rate_hz": 50.0, "first_s": 0.13, "frames": 40, "frame_rate_hz": 4.0, "align": align}
    whole = align_features(features, **times)  # type: ignore[arg-type]
    for frame in (0, 1, 7, 39):
        other = features.copy()
        other[[0.13 + index / 50 > (frame + 1) / 4 + 1e-9 for index in range(500)]] += 100
        changed = align_features(other, **times)  # type: ignore[arg-type]
        np.testing.assert_array_equal(changed[: frame + 1], whole[: frame + 1])


def test_frames_before_the_first_feature_are_zero_and_long_recordings_keep_their_time() -> None:
    features = np.ones((3, 2), np.float16)
    found = align_features(features, rate_hz=1.0, first_s=2.0, frames=6, frame_rate_hz=2.0, align="latest")
    assert found[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert found.dtype == np.float16
    hours = np.arange(3 * 3600 * 100, dtype=np.float64)[:, None]  # feature k is complete at (k + 1) / 100
    times = {"rate_hz": 100.0, "first_s": 0.01, "frames": 3 * 3600 * 30, "frame_rate_hz": 30.0}
    last = align_features(hours, **times, align="latest")[:, 0]  # type: ignore[arg-type]
    frames = np.arange(len(last), dtype=np.int64)
    np.testing.assert_array_equal(last, (frames + 1) * 100 // 30 - 1)


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_sound_files_become_a_stream(tmp_path: Path, videos: Path, align: str) -> None:
    folder = _sounds(tmp_path / "sound")
    add_audio(videos, folder, tmp_path / "out.h5", front_end="telephone", align=align)
    front_end = log_mel_preset("telephone")
    with FeatureStore(videos) as before, FeatureStore(tmp_path / "out.h5") as after:
        assert dict(after.streams) == {"rgb": 4, "audio": 64}
        assert [*after.videos()] == [*before.videos()]
        for name, (frames, rate) in VIDEOS.items():
            np.testing.assert_array_equal(after.labels(name), before.labels(name))
            np.testing.assert_array_equal(after.stored_features(name, "rgb"), before.stored_features(name, "rgb"))
            features = front_end.features((tone(frames / rate, 300 + 100 * len(name)) / 32768).astype(np.float32))
            expected = _obvious(features, 100.0, 0.025, (frames, rate), align)
            np.testing.assert_allclose(after.stored_features(name, "audio"), expected, atol=1e-4)
        assert after.extractors == {"rgb": {"backbone": "resnet50"}, "audio": {**front_end.describe(), "align": align}}
        told: Any = after.attributes["audio"]
        assert (told["align"], told["from"]["file"], after.attributes["origin"]) == (
            align,
            "videos.h5",
            "made for a test",
        )


@pytest.mark.parametrize("kind", ["folder", "hdf5", "store"])
def test_embeddings_become_a_stream(tmp_path: Path, videos: Path, kind: str) -> None:
    rng = np.random.default_rng(5)
    arrays = {name: rng.standard_normal((int(frames / rate * 2) + 1, 3)) for name, (frames, rate) in VIDEOS.items()}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    path, settings = tmp_path / "embeddings", {"rate_hz": 2.0}
    if kind == "folder":
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    elif kind == "hdf5":
        import h5py  # noqa: PLC0415

        path = path.with_suffix(".h5")
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        path, settings = path.with_suffix(".h5"), {}
        with StoreWriter(path, class_names=["x", "y"], streams={"vggish": 3}) as writer:
            for name, array in arrays.items():
                writer.add(name, split="test", rate_hz=2.0, features={"vggish": array}, labels=[0] * len(array))
    add_audio(videos, path, tmp_path / "out.h5", stream="sound", **settings)  # type: ignore[arg-type]
    with FeatureStore(tmp_path / "out.h5") as store:
        for name, (frames, rate) in VIDEOS.items():
            expected = _obvious(arrays[name], 2.0, 0.5, (frames, rate), "latest")
            np.testing.assert_array_equal(store.stored_features(name, "sound"), expected)


def test_a_frame_hears_all_of_its_time_unless_told_otherwise(tmp_path: Path, videos: Path) -> None:
    folder = _sounds(tmp_path / "sound")
    add_audio(videos, folder, tmp_path / "out.h5")
    add_audio(videos, folder, tmp_path / "mean.h5", align="mean")
    with FeatureStore(tmp_path / "out.h5") as out, FeatureStore(tmp_path / "mean.h5") as mean:
        for name in VIDEOS:
            np.testing.assert_array_equal(out.stored_features(name, "audio"), mean.stored_features(name, "audio"))
        assert out.extractors["audio"]["align"] == "mean"


def test_the_time_of_the_first_embedding_can_be_told(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "e").mkdir()
    for name in VIDEOS:
        np.save(tmp_path / "e" / f"{name}.npy", np.ones((20, 2), np.float32))
    add_audio(videos, tmp_path / "e", tmp_path / "out.h5", rate_hz=4.0, first_s=0.975)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.stored_features("a", "audio")[:6, 0].tolist() == [0, 0, 0, 0, 1, 1]


def test_all_that_lack_sound_are_named_at_once(tmp_path: Path, videos: Path) -> None:
    folder = _sounds(tmp_path / "sound")
    (folder / "a.wav").unlink()
    (folder / "c.wav").rename(folder / "._c.wav")
    with pytest.raises(DataError, match="2 videos have no sound: 'a', 'c': add files of these names"):
        add_audio(videos, folder, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_all_that_is_wrong_with_sound_is_named_at_once(tmp_path: Path, videos: Path) -> None:
    folder = _sounds(tmp_path / "sound")
    write_wav(folder / "a.wav", tone(3.0))  # of 5 s
    (folder / "b.wav").write_bytes(b"no sound at all")
    with pytest.raises(DataError) as caught:
        add_audio(videos, folder, tmp_path / "out.h5", front_end="telephone")
    message = str(caught.value)
    assert "video 'a': its sound ends at 3.00 s, the video at 5.00 s: check rates and files, or raise" in message
    assert "video 'b': " in message
    assert "b.wav" in message
    assert "video 'c'" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sound", "videos.h5"]
    write_wav(folder / "b.wav", tone(2.4))
    add_audio(videos, folder, tmp_path / "out.h5", front_end="telephone", tolerance_s=2.5)
    with FeatureStore(tmp_path / "out.h5") as store:
        held = store.stored_features("a", "audio")[15:]
        np.testing.assert_array_equal(held, np.repeat(held[:1], len(held), axis=0))


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown rule": ({"align": "nearest"}, "align='nearest': use one of 'mean', 'latest'"),
    "rate of sound files": ({"rate_hz": 5.0}, "rate_hz=5.0: is for embeddings, and sound holds sound"),
    "first of sound files": ({"first_s": 5.0}, "first_s=5.0: is for embeddings"),
    "negative tolerance": ({"tolerance_s": -1.0}, "tolerance_s=-1.0: give seconds"),
    "a stream that is there": ({"stream": "rgb"}, r"stream='rgb': is in videos\.h5 already"),
    "unknown preset": ({"front_end": "mfcc"}, "front_end='mfcc'"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_wrong_options(tmp_path: Path, videos: Path, kind: str) -> None:
    options, message = OPTIONS[kind]
    with pytest.raises(ConfigError, match=message):
        add_audio(videos, _sounds(tmp_path / "sound"), tmp_path / "out.h5", **options)


def test_embeddings_need_a_rate(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "e").mkdir()
    np.save(tmp_path / "e" / "a.npy", np.ones((20, 2), np.float32))
    with pytest.raises(ConfigError, match="rate_hz must be given"):
        add_audio(videos, tmp_path / "e", tmp_path / "out.h5")
    with pytest.raises(DataError, match="2 videos have no sound: 'b', 'c'"):
        add_audio(videos, tmp_path / "e", tmp_path / "out.h5", rate_hz=4.0)
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        add_audio(videos, tmp_path / "nowhere", tmp_path / "out.h5", rate_hz=4.0)


def test_what_was_interrupted_goes_on_and_ends_the_same(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _sounds(tmp_path / "sound")
    add_audio(videos, folder, tmp_path / "whole.h5", front_end="telephone")
    added: list[str] = []
    add = StoreJournal.add

    def stop(journal: StoreJournal, name: str, **arrays: Any) -> None:
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(name)
        add(journal, name, **arrays)

    monkeypatch.setattr(StoreJournal, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        add_audio(videos, folder, tmp_path / "out.h5", front_end="telephone")
    assert not (tmp_path / "out.h5").exists()
    added.clear()
    add_audio(videos, folder, tmp_path / "out.h5", front_end="telephone")
    assert added == ["c"]
    assert (tmp_path / "out.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_the_sound_of_real_videos(tmp_path: Path, shared_data: Path) -> None:
    from coadtr.audio import AudioReader  # noqa: PLC0415

    clips = []
    for path in sorted((shared_data / "clips").iterdir()):
        try:
            with AudioReader(path) as reader:
                seconds = sum(len(block) for block in reader) / reader.rate_hz
        except DataError:
            continue
        clips.append((path, seconds))
    if not clips:
        pytest.skip("none of the clips has sound")
    (tmp_path / "clips").mkdir()
    with StoreWriter(tmp_path / "a.h5", class_names=["x", "y"], streams={"rgb": 2}) as writer:
        for path, seconds in clips:
            shutil.copy(path, tmp_path / "clips")
            frames = max(1, int(seconds * 4))
            writer.add(
                path.stem, split="test", rate_hz=4.0, features={"rgb": np.ones((frames, 2), "f4")}, labels=[0] * frames
            )
    add_audio(tmp_path / "a.h5", tmp_path / "clips", tmp_path / "b.h5", align="mean")
    with FeatureStore(tmp_path / "b.h5") as store:
        assert all(store.stored_features(path.stem, "audio").std() > 0 for path, _ in clips)
