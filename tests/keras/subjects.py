"""Every streaming layer beside a slow, obvious reference: the clip, or the sequence, that each step equals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras", reason="needs the extra `keras`: make test-keras runs these tests")

from coadtr.keras import (  # noqa: E402 (once it is known that Keras is there)
    CircularPositionalEncoding,
    CoDelay,
    CoOadTR,
    CoReMultiHeadAttention,
    CoReTransformerEncoder,
    CoSiMultiHeadAttention,
    CoSiTransformerEncoder,
    CoSiTransformerStack,
    CoTransformerEncoder,
)

WIDTH, WINDOW = 6, 5
SIZES: dict[str, Any] = {"seq_len": WINDOW, "embed_dim": WIDTH, "num_heads": 2, "ff_dim": 7}
TOLERANCE: dict[str, Any] = {"atol": 2e-5, "rtol": 1e-5}


@dataclass(frozen=True)
class Subject:
    """One kind of layer.

    Attributes:
        make: Makes a layer; settings by keyword.
        answer: The layer and a whole stream up to the newest frame, ``(B, t + 1, C)``, to what the last step answers.
    """

    make: Callable[..., Any]
    answer: Callable[[Any, Any], Any]

    def built(self, *, scale: float = 1.0, **settings: Any) -> Any:
        """Make a layer with weights of a seed, those of queries and keys scaled."""
        layer = self.make(**settings)
        layer.build((None, None, WIDTH))
        randomise(layer, scale)
        return layer


def array(tensor: Any) -> NDArray[Any]:
    """Copy a tensor of any backend."""
    return np.array(keras.ops.convert_to_numpy(tensor))


def randomise(layer: Any, scale: float = 1.0) -> None:
    rng = np.random.default_rng(11)
    for weight in layer.weights:
        values = rng.normal(scale=0.5, size=tuple(weight.shape)) + (weight.path.endswith("gamma"))
        if "query/kernel" in weight.path or "key/kernel" in weight.path:
            values *= scale
        weight.assign(values.astype(np.float32))


def _self_attended(layer: Any, frames: Any) -> Any:
    return layer(frames, frames)[:, 0]


def _window_in_order(layer: Any, frames: Any, *again: Any) -> Any:
    """Put the outputs of a short clip behind zeros, as a step has them."""
    outputs = array(layer(frames, *again))
    return np.pad(outputs, ((0, 0), (WINDOW - outputs.shape[1], 0), (0, 0)))


def _by_windows(model: Any, frames: Any) -> Any:
    first = max(0, frames.shape[1] - WINDOW)
    return model(frames[:, first:], first_frame=np.full(frames.shape[0], first))


def _delayed(_layer: Any, frames: Any) -> Any:
    return frames[:, -4] if frames.shape[1] > 3 else np.zeros_like(frames[:, 0])


def _model(depth: int) -> Callable[..., Any]:
    return lambda **settings: CoOadTR(
        **(SIZES | {"input_dim": WIDTH, "num_classes": 3, "depth": depth, "normalise": True} | settings)
    )


SUBJECTS = {
    "single-output attention": Subject(lambda **s: CoSiMultiHeadAttention(WINDOW, 2, 4, 3, **s), _self_attended),
    "gated attention": Subject(lambda **s: CoSiMultiHeadAttention(WINDOW, 2, 4, use_gate=True, **s), _self_attended),
    "retroactive attention": Subject(
        lambda **s: CoReMultiHeadAttention(WINDOW, 2, 4, 3, **s),
        lambda layer, frames: _window_in_order(layer, frames, frames),
    ),
    "single-output block": Subject(
        lambda **s: CoSiTransformerEncoder(**SIZES, **s), lambda layer, frames: layer(frames)[:, 0]
    ),
    "pre-norm block": Subject(
        lambda **s: CoSiTransformerEncoder(**SIZES, norm_first=True, key_dim=3, use_bias=False, **s),
        lambda layer, frames: layer(frames)[:, 0],
    ),
    "retroactive block": Subject(lambda **s: CoReTransformerEncoder(**SIZES, **s), _window_in_order),
    "encoder of depth 3": Subject(
        lambda **s: CoTransformerEncoder(3, **SIZES, **s), lambda layer, frames: layer(frames)[:, 0]
    ),
    "stack of depth 2": Subject(
        lambda **s: CoSiTransformerStack(2, **SIZES, **s), lambda layer, frames: layer(frames)[:, 0]
    ),
    "CoOadTR-b1": Subject(_model(1), _by_windows),
    "CoOadTR-b2": Subject(_model(2), _by_windows),
    "positions": Subject(
        lambda **s: CircularPositionalEncoding(7, WIDTH, **s), lambda layer, frames: layer(frames)[:, -1]
    ),
    "delay": Subject(lambda **s: CoDelay(3, **s), _delayed),
}
# The layers that attend.
ATTENDING = {name: subject for name, subject in SUBJECTS.items() if name not in ("positions", "delay")}


def run_steps(layer: Any, frames: Any) -> NDArray[Any]:
    """Answer a stream frame by frame, ``(B, T, ...)``."""
    return np.stack([array(layer.call_step(frames[:, t])) for t in range(frames.shape[1])], axis=1)
