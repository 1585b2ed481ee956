"""The detector of the runtime is the native one's twin: same answers, same errors, in the same words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coadtr.checkpoint import Checkpoint, load
from coadtr.errors import CoadtrError
from coadtr.runtime import OnlineDetector
from coadtr.serving import NativeStepper
from tests.checkpoint.making import save_small
from tests.runtime.conftest import FRAMES, push_all
from tests.runtime.test_detector import BAD


@pytest.fixture(scope="module", params=["cooadtr_b2", "trn"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(save_small(tmp_path_factory.mktemp("twin"), request.param, mean=1.0))


def test_answers_are_the_native_ones(checkpoint: Checkpoint) -> None:
    twin, native, others = OnlineDetector(NativeStepper(checkpoint.path)), checkpoint.detector(), checkpoint.detector()
    expected = np.stack([native.push(frame) for frame in FRAMES[:30]])
    np.testing.assert_array_equal(push_all(twin, FRAMES[:30]), expected)
    np.testing.assert_array_equal(twin.push_many(FRAMES[:30], stream="other"), others.push_many(FRAMES[:30]))
    batched = [twin.push_batch({"a": frame, "b": -frame, "c": 2 * frame}) for frame in FRAMES[:30]]
    np.testing.assert_allclose(np.stack([answers["a"] for answers in batched]), expected, atol=1e-5)


@pytest.mark.parametrize("kind", BAD)
def test_errors_are_the_native_ones(kind: str, checkpoint: Checkpoint) -> None:
    frame: Any = BAD[kind][0]
    twin, native = OnlineDetector(NativeStepper(checkpoint.path)), checkpoint.detector()
    twin.push_many(FRAMES[:6])
    native.push_many(FRAMES[:6])
    for method, given in (("push", frame), ("push_many", [frame]), ("push_many", FRAMES[0])):
        told = []
        for detector in (twin, native):
            with pytest.raises(CoadtrError) as caught:
                getattr(detector, method)(given)
            told.append((type(caught.value), str(caught.value)))
        if "not a number" in told[0][1]:  # what numpy and torch say of it in brackets differs
            told = [(error, text.partition(" (")[0]) for error, text in told]
        assert told[0] == told[1]
