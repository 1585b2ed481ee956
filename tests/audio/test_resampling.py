"""Resampling: exact in pieces, quiet above the band, and at the right time."""

from __future__ import annotations

import numpy as np
import pytest

from coadtr.audio import Resampling, resample
from coadtr.errors import ConfigError, ShapeError

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
    assert len(pieces) == -(-len(samples) * target // source)


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.85])
def test_a_tone_below_both_bands_stays_what_it_is(source: int, target: int, part: float) -> None:
    hz = part * min(source, target) / 2
    found = resample(np.sin(2 * np.pi * hz * np.arange(source) / source).astype(np.float32), source, target)
    wanted = np.sin(2 * np.pi * hz * np.arange(target) / target)
    assert np.abs(found - wanted)[300:-300].max() < 1e-4


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (48000, 8000), (22050, 16000)])
def test_a_tone_above_the_band_is_silenced(source: int, target: int) -> None:
    hz = min(1.06 * target / 2, 0.49 * source)
    found = resample(np.sin(2 * np.pi * hz * np.arange(source) / source).astype(np.float32), source, target)
    assert np.abs(found)[300:-300].max() < 1e-4


def test_the_sum_written_out() -> None:
    """Compare with the interpolation formula, sample by sample, in float64."""
    source, target = 441, 320
    samples = np.random.default_rng(0).standard_normal(600).astype(np.float32)
    found = resample(samples, source, target)
    cutoff = 0.94 * target / source
    half = 32 / cutoff
    for index in (0, 1, 50, 200, len(found) - 1):
        total, weight = 0.0, 0.0
        at = index * source / target
        for place in range(int(np.ceil(at - half)), int(np.floor(at + half)) + 1):
            away = place - at
            tap = float(np.sinc(cutoff * away)) * float(np.i0(10.0 * np.sqrt(max(0.0, 1 - (away / half) ** 2))))
            weight += tap
            total += tap * float(samples[place]) if 0 <= place < len(samples) else 0.0
        assert found[index] == pytest.approx(total / weight, abs=1e-5)


def test_a_stream_does_not_wait_longer_than_its_reach() -> None:
    stream = Resampling(48000, 16000)
    given = len(stream.push(np.zeros(4800, np.float32)))
    assert given == (4800 - 1 - stream.reach) // 3 + 1


def test_nothing_gives_nothing() -> None:
    assert resample(np.zeros(0, np.float32), 44100, 16000).shape == (0,)


@pytest.mark.parametrize("rate", [0, -8000, 1.5, True, 10**7])
def test_rates_that_are_none(rate: int) -> None:
    with pytest.raises(ConfigError, match="give samples a second"):
        resample(np.zeros(10, np.float32), rate, 8000)


def test_rates_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="resample by way of another rate"):
        Resampling(767_999, 768_000)


@pytest.mark.parametrize("samples", [np.zeros((10, 2), np.float32), np.zeros(10, np.int16)])
def test_samples_that_are_none(samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    with pytest.raises(ShapeError, match=r"give \(n,\) floats"):
        resample(samples, 44100, 16000)
