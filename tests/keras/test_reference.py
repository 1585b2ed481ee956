"""The outputs of continual-transformers-tf, from its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.keras.subjects import array

from coadtr.keras import CircularPositionalEncoding, CoSiMultiHeadAttention, CoSiTransformerEncoder  # isort: skip

EXACT: dict[str, Any] = {"atol": 1e-5, "rtol": 0}


def read(folder: Path, name: str) -> tuple[dict[str, NDArray[Any]], list[NDArray[Any]]]:
    """Read a file's arrays, and its weights without the counter of a delay that theirs has among them."""
    with np.load(folder / f"keras_{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    weights = [arrays[key] for key in sorted(arrays) if key.startswith("weights/") and arrays[key].ndim]
    return arrays, weights


@pytest.fixture
def attention(shared_reference: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
    arrays, weights = read(shared_reference, "single_output_mha")
    sizes: dict[str, Any] = {name: int(arrays[name]) for name in ("num_heads", "key_dim", "value_dim")}
    layer = CoSiMultiHeadAttention(int(arrays["window"]), **sizes, warmup="none")
    layer.build((2, 10, 4), (2, 10, 4))
    layer.set_weights(weights)
    return layer, arrays


def test_attention_by_steps(attention: tuple[Any, dict[str, NDArray[Any]]]) -> None:
    layer, arrays = attention
    parts = [arrays[name] for name in ("query", "value", "key")]
    outcome = [layer.call_step(*(x[:, t] for x in parts), return_attention_scores=True) for t in range(40)]
    assert outcome[:9] == [(None, None)] * 9
    answers, scores = (np.stack([array(x) for x in column], axis=1) for column in zip(*outcome[9:], strict=True))
    np.testing.assert_allclose(answers, arrays["step_outputs"], **EXACT)
    np.testing.assert_allclose(scores, arrays["step_attention_scores"], **EXACT)


def test_attention_by_several_steps(attention: tuple[Any, dict[str, NDArray[Any]]]) -> None:
    layer, arrays = attention
    parts = [arrays[name] for name in ("query", "value", "key")]
    answers, scores = layer.call_steps(*parts, return_attention_scores=True)
    np.testing.assert_allclose(array(answers), arrays["step_outputs"], **EXACT)
    np.testing.assert_allclose(array(scores), arrays["step_attention_scores"].transpose(0, 2, 1, 3), **EXACT)


def test_attention_on_clips(attention: tuple[Any, dict[str, NDArray[Any]]]) -> None:
    layer, arrays = attention
    parts = [arrays[name] for name in ("query", "value", "key")]
    for t in range(31):
        answer = layer(*(x[:, t : t + 10] for x in parts))
        np.testing.assert_allclose(array(answer)[:, 0], arrays["clip_outputs"][:, t], **EXACT)


def test_encoder(shared_reference: Path) -> None:
    arrays, weights = read(shared_reference, "single_output_encoder")
    layer = CoSiTransformerEncoder(int(arrays["window"]), 4, int(arrays["num_heads"]), int(arrays["ff_dim"]))
    layer.build((None, None, 4))
    layer.set_weights(weights)
    steps = array(layer.call_steps(arrays["x"]))[:, 9:]
    np.testing.assert_allclose(steps, arrays["step_outputs"], **EXACT)
    for t in range(31):
        np.testing.assert_allclose(
            array(layer(arrays["x"][:, t : t + 10]))[:, 0], arrays["clip_outputs"][:, t], **EXACT
        )


def test_circular_positional_encoding(shared_reference: Path) -> None:
    arrays, _ = read(shared_reference, "circular_positional_encoding")
    layer = CircularPositionalEncoding(int(arrays["max_len"]), 4)
    layer.build((None, None, 4))
    layer.set_weights([arrays["table"]])
    steps = [array(layer.call_step(arrays["x"][:, t])) for t in range(40)]
    np.testing.assert_allclose(np.stack(steps, axis=1), arrays["step_outputs"], **EXACT)
