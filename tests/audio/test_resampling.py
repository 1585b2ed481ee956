"""Resampling: exact in pieces, quiet above the band, and at the right time."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from coadtr.audio import Resampling, resample
from coadtr.errors import ConfigError, MissingExtraError, ShapeError

RATES = [(44100, 16000), (22050, 16000), (48000, 8000), (8000, 16000), (16000, 22050), (11025, 8000), (16000, 16000)]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_pieces_give_the_bits_of_the_whole(source: int, target: int) -> None:
    rng = np.random.default_rng(source)
    samples = rng.standard_normal(3 * source // 2).astype(np.float32)
    stream, found, place = Resampling(source, target), [], 0
    while place < len(samples):
        size = int(rng.choice([0, 1, 7, 160, 1024, 5000]))
        found.append(stream.push(samples[place : place + size]))
        place += size
    pieces = np.concatenate([*found, stream.finish()])
    np.testing.assert_array_equal(pieces, resample(samples, source, target))
    assert len(pieces) == round(len(samples) * target / source)


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.85])
def test_a_tone_below_both_bands_stays_what_it_is(source: int, target: int, part: float) -> None:
    hz = part * min(source, target) / 2
    found = resample(np.sin(2 * np.pi * hz * np.arange(source) / source).astype(np.float32), source, target)
    wanted = np.sin(2 * np.pi * hz * np.arange(target) / target)
    assert np.abs(found - wanted)[300:-300].max() < 1e-3


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (48000, 8000), (22050, 16000)])
def test_a_tone_above_the_band_is_silenced(source: int, target: int) -> None:
    hz = min(1.06 * target / 2, 0.49 * source)
    found = resample(np.sin(2 * np.pi * hz * np.arange(source) / source).astype(np.float32), source, target)
    assert np.abs(found)[300:-300].max() < 1e-4


@pytest.mark.parametrize(
    ("source", "target", "seconds"), [(44100, 16000, 0.041), (48000, 16000, 0.041), (8000, 16000, 0.121)]
)
@pytest.mark.parametrize("size_s", [0.01, 0.001])
def test_a_stream_does_not_wait_longer_than_is_said(source: int, target: int, seconds: float, size_s: float) -> None:
    """What live sound waits for on its way to the front end, as the docs have it."""
    stream, given, size = Resampling(source, target), 0, round(size_s * source)
    for taken in range(size, source, size):
        given += len(stream.push(np.zeros(size, np.float32)))
        assert taken / source - given / target <= seconds


def test_an_impulse_keeps_its_time() -> None:
    impulse = np.zeros(44100, np.float32)
    impulse[22050] = 1.0  # at half a second
    assert int(resample(impulse, 44100, 16000).argmax()) == 8000


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingExtraError, match=r"soxr.*coadtr\[audio\]"):
        resample(np.zeros(10, np.float32), 44100, 16000)
    assert resample(np.ones(10, np.float32), 8000, 8000).sum() == 10  # which needs nothing


def test_nothing_gives_nothing() -> None:
    assert resample(np.zeros(0, np.float32), 44100, 16000).shape == (0,)


@pytest.mark.parametrize("rate", [0, -8000, 1.5, True, 10**7])
def test_rates_that_are_none(rate: int) -> None:
    with pytest.raises(ConfigError, match="give samples a second"):
        resample(np.zeros(10, np.float32), rate, 8000)


def test_rates_without_a_common_divisor() -> None:
    assert len(resample(np.zeros(767_999, np.float32), 767_999, 768_000)) == 768_000


@pytest.mark.parametrize("samples", [np.zeros((10, 2), np.float32), np.zeros(10, np.int16)])
def test_samples_that_are_none(samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    with pytest.raises(ShapeError, match=r"give \(n,\) floats"):
        resample(samples, 44100, 16000)
