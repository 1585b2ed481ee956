"""Simulated THUMOS14: real labels, features as stated, the same however and in whatever part they are made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.cli import main as cli
from coadtr.data import FeatureStore, StoreJournal, render, summarise
from coadtr.data.sources.perframe import read_perframe
from coadtr.data.synthesize import SIMULATED, SMOOTH_SECONDS, THUMOS14_STREAMS, simulate_features, synthesize_thumos14
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

NARROW = {"rgb": 24, "flow": 8}
NAMES = ["video_validation_0000690", "video_validation_0000288", "video_test_0000292"]


@pytest.fixture
def labelled(shared_data: Path) -> Path:
    return shared_data / "thumos14_annotations"


def _labels(frames: int, classes: int = 4) -> Any:
    return np.random.default_rng(1).integers(0, classes, frames // 20 + 1).repeat(20)[:frames]


def _simulate(name: str = "a", **options: Any) -> Any:
    settings: dict[str, Any] = {"rate_hz": 5.0, "classes": 4, "streams": NARROW, **options}
    return simulate_features(name, _labels(400), **settings)


def test_features_depend_on_seed_and_video_alone() -> None:
    first = _simulate()
    np.testing.assert_array_equal(first["rgb"], _simulate()["rgb"])
    np.testing.assert_array_equal(first["flow"], _simulate(streams={"flow": 8})["flow"])
    assert first["rgb"].dtype == np.float32
    assert first["rgb"].shape == (400, 24)
    for other in (_simulate("b"), _simulate(seed=1)):
        assert np.abs(other["rgb"] - first["rgb"]).mean() > 0.5
    assert not np.array_equal(first["rgb"][:, :8], first["flow"])


def test_no_noise_leaves_the_class_means() -> None:
    features, labels = _simulate(noise=0.0)["rgb"], _labels(400)
    for label in range(4):
        assert np.ptp(features[labels == label], axis=0).max() < 1e-5
    assert np.ptp(features, axis=0).min() > 0.01


def test_correlation_in_time_is_as_stated() -> None:
    rate = 5.0
    labels = np.zeros(40_000, int)
    features = simulate_features("long", labels, rate_hz=rate, classes=2, streams={"rgb": 64})["rgb"].astype(float)
    centred = features - features.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    # The columns of the mixing matrix differ in length; on average half of the variance is smooth, half white.
    assert variance.mean() == pytest.approx(2.0, rel=0.1)
    for frames in (1, 5, 10, 20):
        together = (centred[frames:] * centred[:-frames]).mean(axis=0).mean()
        assert together == pytest.approx(np.exp(-frames / rate / SMOOTH_SECONDS), abs=0.05)
    white = np.diff(features, axis=0)
    assert abs((white[2:] * white[:-2]).mean()) < 0.05


def test_classes_overlap_but_can_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    labels = {name: rng.integers(0, 10, 60).repeat(10) for name in map(str, range(60))}
    found = {
        name: simulate_features(name, one, rate_hz=5.0, classes=10, streams={"rgb": 128})["rgb"]
        for name, one in labels.items()
    }
    names = list(labels)
    train, target = np.concatenate([found[n] for n in names[:40]]), np.concatenate([labels[n] for n in names[:40]])
    means = np.stack([train[target == label].mean(axis=0) for label in range(10)])
    test, truth = np.concatenate([found[n] for n in names[40:]]), np.concatenate([labels[n] for n in names[40:]])
    distance = ((test[:, None] - means) ** 2).sum(axis=-1)
    accuracy = float((distance.argmin(axis=1) == truth).mean())
    assert 0.4 < accuracy < 0.95


def test_a_part_is_the_same_as_in_the_whole(labelled: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"streams": NARROW, "seed": 3}
    whole = synthesize_thumos14(labelled, tmp_path / "whole.h5", videos=NAMES, **options)
    alone = synthesize_thumos14(labelled, tmp_path / "alone.h5", videos=NAMES[2:], **options)
    published = read_perframe(labelled / "test_perframe.npz")
    with FeatureStore(whole) as store, FeatureStore(alone) as part:
        assert [video.name for video in store.videos()] == NAMES
        assert store.stored_dtype() == np.float16
        np.testing.assert_array_equal(store.labels(NAMES[2]), published.labels[NAMES[2]])
        np.testing.assert_array_equal(store.features(NAMES[2]), part.features(NAMES[2]))
        drawn = simulate_features(NAMES[2], published.labels[NAMES[2]], rate_hz=5.0, classes=22, streams=NARROW, seed=3)
        np.testing.assert_array_equal(store.features(NAMES[2], streams=["rgb"]), drawn["rgb"].astype(np.float16))


def test_the_store_says_that_it_is_simulated(labelled: Path, tmp_path: Path) -> None:
    synthesize_thumos14(labelled, tmp_path / "out.h5", videos=NAMES, streams=NARROW)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert str(store.attributes["origin"]).startswith(SIMULATED)
        assert store.attributes["label_rule"] == "published per-frame labels"
        made = {"backbone": "simulated", "weights": "seed 0"}
        assert store.attributes["extractors"] == dict.fromkeys(NARROW, made)
        assert "AR(1)" in store.attributes["simulation"]["model"]  # type: ignore[index]
        assert (store.background, store.ignored, store.class_names[21]) == (0, 21, "Ambiguous")
        summary = summarise(store)
    assert SIMULATED in str(summary.attributes["origin"])
    assert render(summary) is not None


def test_a_run_that_was_interrupted_goes_on(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"streams": NARROW, "scale": 0.02}
    whole = synthesize_thumos14(labelled, tmp_path / "whole.h5", **options)
    added: list[str] = []
    add = StoreJournal.add

    def breaking(self: StoreJournal, name: str, **fields: Any) -> None:
        if len(added) == 4:
            raise KeyboardInterrupt
        add(self, name, **fields)
        added.append(name)

    monkeypatch.setattr(StoreJournal, "add", breaking)
    with pytest.raises(KeyboardInterrupt):
        synthesize_thumos14(labelled, tmp_path / "resumed.h5", **options)
    assert not (tmp_path / "resumed.h5").exists()
    first = added.copy()
    added[:] = ["none of the next run"] * 5
    synthesize_thumos14(labelled, tmp_path / "resumed.h5", **options)
    assert not set(first) & set(added[5:])
    assert (tmp_path / "resumed.h5").read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed.h5", "whole.h5"]


def test_a_small_scale_has_a_part_of_each_split(labelled: Path, tmp_path: Path) -> None:
    for scale, expected in ((0.001, [1, 1, 1]), (0.05, [8, 2, 11])):
        out = synthesize_thumos14(labelled, tmp_path / f"{scale}.h5", scale=scale, streams={"rgb": 2})
        with FeatureStore(out) as store:
            assert [len(store.videos(split)) for split in ("train", "validation", "test")] == expected
            chosen = store.attributes["validation"]["videos"]  # type: ignore[index]
            assert chosen == sorted(video.name for video in store.videos("validation"))


@pytest.mark.slow
def test_the_whole_has_the_size_of_thumos14(labelled: Path, tmp_path: Path) -> None:
    assert sum(THUMOS14_STREAMS.values()) == 4096
    out = synthesize_thumos14(labelled, tmp_path / "out.h5", streams={"rgb": 2})
    lists: dict[str, Any] = {}
    for subset in ("val", "test"):
        lists |= read_perframe(labelled / f"{subset}_perframe.npz").labels
    with FeatureStore(out) as store:
        assert [len(store.videos(split)) for split in ("train", "validation", "test")] == [170, 30, 213]
        assert sum(video.frames for video in store.videos()) == store.check() == 428_585
        for video in store.videos():
            np.testing.assert_array_equal(store.labels(video.name), lists[video.name])


def test_what_cannot_be_made_is_named(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    for options, message in (
        ({"scale": 0.0}, r"scale=0\.0: give a number above 0, at most 1"),
        ({"noise": -1.0}, r"noise=-1\.0: give 0 or a positive number"),
        ({"seed": -1}, "seed=-1"),
        ({"streams": {"rgb": 0}}, "give the channels of each"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"compression": "zip"}, "compression='zip'"),
        ({"videos": ["video_test_9999999"]}, "name at least one video of the lists"),
    ):
        with pytest.raises(ConfigError, match=message):
            synthesize_thumos14(labelled, out, **options)
    with pytest.raises(DataError, match=r"val_perframe\.npz: no such file"):
        synthesize_thumos14(tmp_path, out)
    assert list(tmp_path.iterdir()) == []


def test_labels_and_lists_at_odds_are_told_at_once(labelled: Path, tmp_path: Path) -> None:
    with np.load(labelled / "test_perframe.npz") as file:
        fields: dict[str, Any] = dict(file)
    fields["names"] = np.where(fields["names"] == NAMES[2], "video_test_none", fields["names"])
    fields["class_names"] = np.where(fields["class_names"] == "Diving", "Dive", fields["class_names"])
    np.savez(tmp_path / "test_perframe.npz", **fields)
    for name in ("val_perframe.npz", "data_info_new.json"):
        (tmp_path / name).write_bytes((labelled / name).read_bytes())
    with pytest.raises(DataError, match=f"test_perframe.npz has other classes.*video '{NAMES[2]}' is on the list"):
        synthesize_thumos14(tmp_path, tmp_path / "out.h5")


def test_the_command_makes_a_store_and_refuses_to_replace_it(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "thumos14_simulated.h5"
    words = ["coadtr", "data", "synthesize", "like=thumos14", f"source={labelled}", f"out={out}", "scale=0.001"]
    monkeypatch.setattr(sys, "argv", [*words, "dtype=float32", "streams.rgb=4", "streams.flow=2"])
    cli.main()
    assert SIMULATED in capsys.readouterr().out
    with FeatureStore(out) as store:
        assert dict(store.streams) == {"rgb": 4, "flow": 2}
        assert store.stored_dtype() == np.float32
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "thumos14_simulated.h5 exists: choose another out, or say overwrite=true" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*words, "overwrite=true", "like=tvseries"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "like must be one of thumos14" in capsys.readouterr().err
