"""Log-mel features: those of references, and of a stream those of the whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from coadtr.audio import PRESETS, LogMel, log_mel_preset, resample
from coadtr.errors import ConfigError, DataError, MissingExtraError, ShapeError
from tests.audio.writing import chirp

SETTINGS = {
    "vggish": log_mel_preset("vggish"),
    "patches": log_mel_preset("vggish_patches", patch_hop=17),
    "apart": log_mel_preset("telephone", patch_frames=3, patch_hop=7),
    "gaps": LogMel(rate_hz=8000, high_hz=4000.0, hop_s=0.04, slopes="hz", bands=20),
    "odd": LogMel(rate_hz=11025, window_s=0.0303, hop_s=0.0071, bands=32, high_hz=5000.0),
}


def vggish(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute what VGGish's mel_features.py does, written out frame by frame."""

    def mel(hz: float) -> float:
        return 1127.0 * float(np.log(1.0 + hz / 700.0))

    window = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    bins = [mel(index * 8000.0 / 256) for index in range(257)]
    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    weights = np.zeros((257, 64))
    for band in range(64):
        low, middle, high = edges[band : band + 3]
        for index in range(1, 257):
            rising, falling = (bins[index] - low) / (middle - low), (high - bins[index]) / (high - middle)
            weights[index, band] = max(0.0, min(rising, falling))
    rows = []
    for begin in range(0, len(samples) - 399, 160):
        spectrum = np.abs(np.fft.rfft(samples[begin : begin + 400].astype(np.float64) * window, 512))
        rows.append(np.log(spectrum @ weights + 0.01))
    return np.stack(rows)


def by_librosa(front_end: LogMel, samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute frames with librosa's own parts."""
    size, window = 1 << (front_end.window_samples - 1).bit_length(), front_end.window_samples
    # librosa puts a short window in the middle of a transform; that turns phases but no magnitude.
    padded = np.pad(samples.astype(np.float64), ((size - window) // 2, (size - window + 1) // 2))
    spectrum = np.abs(
        librosa.stft(padded, n_fft=size, hop_length=front_end.hop_samples, win_length=window, center=False)
    )
    bank = librosa.filters.mel(
        sr=front_end.rate_hz,
        n_fft=size,
        n_mels=front_end.bands,
        fmin=front_end.low_hz,
        fmax=front_end.high_hz,
        htk=True,
        norm=None,
        dtype=np.float64,
    )
    frames: NDArray[np.float64] = np.log(bank @ spectrum + front_end.offset).T
    return frames


def test_the_preset_is_vggish() -> None:
    samples = chirp(0.8, 16000)[:, 0]
    found = log_mel_preset("vggish").features(samples)
    np.testing.assert_allclose(found, vggish(samples), atol=2e-6)
    patches = log_mel_preset("vggish_patches").features(chirp(2.0, 16000)[:, 0])
    assert patches.shape == (2, 96 * 64)
    np.testing.assert_allclose(patches[1].reshape(96, 64), vggish(chirp(2.0, 16000)[:, 0])[96:192], atol=2e-6)


@pytest.mark.parametrize("front_end", [LogMel(slopes="hz"), log_mel_preset("telephone", slopes="hz"), SETTINGS["gaps"]])
def test_straight_in_hz_it_is_librosa(front_end: LogMel) -> None:
    samples = chirp(0.6, front_end.rate_hz)[:, 0]
    np.testing.assert_allclose(front_end.features(samples), by_librosa(front_end, samples), atol=2e-6)


@pytest.mark.parametrize("name", ["vggish", "patches"])
def test_ten_minutes_in_pieces_are_those_of_the_whole(name: str) -> None:
    front_end, rng = SETTINGS[name], np.random.default_rng(3)
    samples = rng.standard_normal(600 * 16000).astype(np.float32) * 0.1
    samples[1_000_000:2_000_000] = 0.0
    if name == "patches":
        samples = samples[:1_600_000]
    stream, found, place = front_end.stream(), [], 0
    while place < len(samples):
        size = int(rng.choice([0, 1, 159, 160, 161, 4000, 50_000], p=[0.1, 0.1, 0.1, 0.1, 0.1, 0.25, 0.25]))
        found.append(stream.push(samples[place : place + size]))
        place += size
    whole = front_end.features(samples)
    pieces = np.concatenate(found)
    assert pieces.shape == whole.shape
    assert np.abs(pieces - whole).max() <= 1e-5
    if name == "vggish":
        assert len(whole) == 59_998


@pytest.mark.parametrize("name", SETTINGS)
def test_a_feature_is_made_of_its_samples_and_is_there_with_the_last(name: str) -> None:
    front_end = SETTINGS[name]
    samples = chirp(3.0, front_end.rate_hz)[:, 0]
    whole = front_end.features(samples)
    assert len(whole) == front_end.count(len(samples))
    stream, begin = front_end.stream(), 0
    for index in range(len(whole)):
        end = round(front_end.complete_s(index) * front_end.rate_hz)
        assert len(stream.push(samples[begin : end - 1])) == 0
        row = stream.push(samples[end - 1 : end])
        begin = end
        assert len(row) == 1
        np.testing.assert_allclose(row[0], whole[index], atol=1e-5)
        alone = front_end.features(samples[end - front_end.feature_samples : end])
        np.testing.assert_allclose(alone[0], whole[index], atol=1e-5)
    rate = (len(whole) - 1) / (front_end.complete_s(len(whole) - 1) - front_end.complete_s(0))
    assert rate == pytest.approx(front_end.feature_rate_hz)


def test_the_samples_that_are_pushed_may_be_used_again() -> None:
    front_end = SETTINGS["vggish"]
    samples = chirp(1.0, 16000)[:, 0]
    stream, buffer, found = front_end.stream(), np.zeros(250, np.float32), []
    for begin in range(0, 16000, 250):
        buffer[:] = samples[begin : begin + 250]
        found.append(stream.push(buffer))
        buffer[:] = 9.0
    np.testing.assert_allclose(np.concatenate(found), front_end.features(samples), atol=1e-5)


def test_numbers_of_presets() -> None:
    assert {name: (one.dim, one.feature_rate_hz, one.feature_s) for name, one in PRESETS.items()} == {
        "vggish": (64, 100.0, 0.025),
        "vggish_patches": (96 * 64, 100 / 96, 0.975),
        "telephone": (64, 100.0, 0.025),
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_the_record_is_read_again(name: str) -> None:
    front_end = SETTINGS[name]
    record = front_end.describe()
    assert all(isinstance(value, str) for value in record.values())
    assert LogMel.recorded(record) == front_end


def test_whole_numbers_have_the_record_of_the_same_number() -> None:
    front_end = LogMel(window_s=1, high_hz=4000)
    assert front_end.describe() == LogMel(window_s=1.0, high_hz=4000.0).describe()
    assert LogMel.recorded(front_end.describe()) == front_end


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"front_end": "wavelets"}, "not of a log-mel front end"),
        ({"bands": "many"}, "bands='many' on record is no number"),
        ({"bands": "9999999"}, "bands=9999999: give a whole number"),
        ({"bands": "064"}, "says more than is known here"),
        ({"noise": "0.5"}, "says more than is known here"),
        ({"offset": "nan"}, "offset=nan"),
        ({"hop_s": None}, "has no hop_s"),
    ],
)
def test_another_record_is_refused(change: dict[str, str | None], told: str) -> None:
    record = {key: value for key, value in (LogMel().describe() | change).items() if value is not None}
    with pytest.raises(ConfigError, match=told):
        LogMel.recorded(record)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rate_hz": 8000}, "set high_hz to at most 4000"),
        ({"low_hz": 8000.0}, "the lower bound first"),
        ({"low_hz": -1.0}, "low_hz=-1.0"),
        ({"bands": 0}, "bands=0: give a whole number from 1"),
        ({"bands": 6.5}, "bands=6.5: give a whole number"),
        ({"bands": True}, "bands=True: give a whole number"),
        ({"bands": 500}, "band 0 of bands=500 is narrower than the bins of 31.2 Hz"),
        ({"window_s": "long"}, "window_s='long': give a number"),
        ({"window_s": 60.0}, "window_s=60.0: give seconds, from one sample to 10"),
        ({"window_s": 1 / 16000}, "is a single sample"),
        ({"hop_s": 0.0}, "hop_s=0.0: give seconds"),
        ({"offset": 0.0}, "offset=0.0: give a number above 0"),
        ({"patch_frames": 0}, "patch_frames=0"),
        ({"patch_frames": 50_000}, "a feature would have 3200000 channels"),
        ({"slopes": "bent"}, "slopes='bent': use one of mel, hz"),
        ({"window": 0.02}, "'window' is no setting of a log-mel front end: use rate_hz"),
    ],
)
def test_settings_that_are_none(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        log_mel_preset("vggish", **settings)


def test_a_preset_that_is_none() -> None:
    with pytest.raises(ConfigError, match="front_end='mfcc': use one of vggish, vggish_patches, telephone"):
        log_mel_preset("mfcc")


def test_samples_that_are_none() -> None:
    front_end = LogMel()
    with pytest.raises(DataError, match=r"399 samples \(0.0249 s\) are shorter than one feature of 0.025 s"):
        front_end.features(np.zeros(399, np.float32))
    with pytest.raises(ShapeError, match=r"\(10, 2\) float32; give \(n,\) floats"):
        front_end.features(np.zeros((10, 2), np.float32))
    with pytest.raises(ShapeError, match="int16"):
        front_end.stream().push(np.zeros(10, np.int16))
    stream, good = front_end.stream(), chirp(0.1, 16000)[:, 0]
    stream.push(good[:500])
    with pytest.raises(DataError, match="sample 3 is nan"):
        stream.push(np.asarray([0.0, 0.0, 0.0, np.nan], np.float32))
    np.testing.assert_allclose(stream.push(good[500:]), front_end.features(good)[1:], atol=1e-5)


def test_without_librosa_slopes_in_hz_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(MissingExtraError, match=r"slopes=hz needs .*coadtr\[audio\]"):
        LogMel(slopes="hz")


def test_spoken_digits(shared_data: Path) -> None:
    with np.load(shared_data / "fsdd" / "fsdd.npz") as stored:
        offsets, rate = stored["offsets"], int(stored["sample_rate"])
        samples = [stored["samples"][offsets[index] : offsets[index + 1]] for index in range(0, 3000, 600)]
    front_end = log_mel_preset("telephone")
    assert rate == front_end.rate_hz
    for utterance in samples:
        heard = (utterance / 32768).astype(np.float32)
        whole, stream = front_end.features(heard), front_end.stream()
        pieces = np.concatenate([stream.push(piece) for piece in np.array_split(heard, 37)])
        np.testing.assert_allclose(pieces, whole, atol=1e-5)
        assert whole.std() > 0.3  # speech, not silence
        again = log_mel_preset("vggish", high_hz=3800.0).features(resample(heard, 8000, 16000))
        assert np.abs(again[: len(whole)] - whole).mean() < 1.0
