"""The detector of the runtime is the native one's twin: same answers, same errors, in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from coadtr.checkpoint import Checkpoint, CheckpointSpec, load, save_checkpoint
from coadtr.errors import CoadtrError
from coadtr.layers import state_from_tensors, state_tensors
from coadtr.models import build_model
from coadtr.runtime import Description, Leaf, OnlineDetector
from tests.models.sizes import small
from tests.runtime.conftest import FRAMES, Array, push_all
from tests.runtime.test_detector import BAD


class Native:
    """A stepper that runs the model itself."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.model, spec = checkpoint.model, checkpoint.spec
        self.like = self.model.init_state(1)
        self.description = Description(
            class_names=spec.class_names,
            background=spec.background,
            ignored=spec.ignored,
            streams=spec.streams,
            rate_hz=spec.rate_hz,
            head=spec.head,
            state=tuple(Leaf(str(index), leaf[0].numpy()) for index, leaf in enumerate(state_tensors(self.like))),
            source={"weights_sha256": "of a test"},
        )

    @torch.inference_mode()
    def step(self, frames: Array, state: Sequence[Array]) -> tuple[Array, list[Array]]:
        # Copies, because the model writes into the state that it is given.
        before = state_from_tensors([torch.tensor(leaf) for leaf in state], self.like)
        logits, after = self.model.step(torch.tensor(frames), before)
        return logits.numpy(), [leaf.contiguous().numpy() for leaf in state_tensors(after)]


@pytest.fixture(scope="module", params=["cooadtr_b2", "trn"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.manual_seed(3)
    model = build_model(small(request.param, input_dim=5, normalise=True))
    model.inputs.set_statistics(torch.randn(5), torch.rand(5) + 0.5)
    spec = CheckpointSpec(
        model=model.config,
        class_names=("rest", "lift", "unclear"),
        background=0,
        ignored=2,
        streams={"rgb": 3, "flow": 2},
        rate_hz=5.0,
    )
    return load(save_checkpoint(tmp_path_factory.mktemp("twin") / "checkpoint", model, spec, {}))


def test_answers_are_the_native_ones(checkpoint: Checkpoint) -> None:
    twin, native, others = OnlineDetector(Native(checkpoint)), checkpoint.detector(), checkpoint.detector()
    expected = np.stack([native.push(frame) for frame in FRAMES[:30]])
    np.testing.assert_array_equal(push_all(twin, FRAMES[:30]), expected)
    np.testing.assert_array_equal(twin.push_many(FRAMES[:30], stream="other"), others.push_many(FRAMES[:30]))
    batched = [twin.push_batch({"a": frame, "b": -frame, "c": 2 * frame}) for frame in FRAMES[:30]]
    np.testing.assert_allclose(np.stack([answers["a"] for answers in batched]), expected, atol=1e-5)


@pytest.mark.parametrize("kind", BAD)
def test_errors_are_the_native_ones(kind: str, checkpoint: Checkpoint) -> None:
    frame: Any = BAD[kind][0]
    twin, native = OnlineDetector(Native(checkpoint)), checkpoint.detector()
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
