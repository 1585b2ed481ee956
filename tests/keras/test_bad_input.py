"""What is refused, and the words for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.keras.subjects import SUBJECTS, keras

from coadtr.errors import CheckpointError, ConfigError, ShapeError  # isort: skip
from coadtr.keras import (  # isort: skip
    CircularPositionalEncoding,
    CoDelay,
    CoOadTR,
    CoReMultiHeadAttention,
    CoSiMultiHeadAttention,
    CoSiTransformerEncoder,
    CoTransformerEncoder,
    cyclic_sinusoidal_table,
    from_torch,
    to_torch,
)

BAD_SETTINGS: list[tuple[Callable[[], Any], str]] = [
    (lambda: CoSiMultiHeadAttention(0, 2, 4), "seq_len must be a whole number of at least 1 frame, got 0"),
    (lambda: CoSiMultiHeadAttention(4, 2, 4, attention_axes=2), r"attends over time.*got attention_axes=2"),
    (lambda: CoSiMultiHeadAttention(4, 2, 4, sliding_window=3), r"seq_len=4 is the window; leave sliding_window=3 out"),
    (lambda: CoReMultiHeadAttention(4, 2, 4, use_gate=True), "leave use_gate=True out"),
    (lambda: CoSiMultiHeadAttention(4, 2, 4, warmup="zeros"), "warmup must be one of mask, none, got 'zeros'"),
    (lambda: CoSiMultiHeadAttention(4, 2, 4, call_mode="frame"), "call_mode must be one of regular, steps, step"),
    (lambda: CoSiTransformerEncoder(4, 6, 2, 0), "ff_dim must be a whole number of at least 1, got 0"),
    (lambda: CoTransformerEncoder(0, 4, 6, 2, 8), "depth must be a whole number of at least 1, got 0"),
    (lambda: CoOadTR(input_dim=3, num_classes=2, embed_dim=6, num_heads=4), "multiple of num_heads, got 6 and 4"),
    (lambda: CircularPositionalEncoding(5, 4, kind="cosine"), "kind must be 'learned' or 'fixed', got 'cosine'"),
    (lambda: CircularPositionalEncoding(0, 4), "at least one embedding and channel, got max_len=0"),
    (lambda: cyclic_sinusoidal_table(5, 3), "an even dim >= 2, got length=5, dim=3"),
    (lambda: CoDelay(-1), "CoDelay: delay must be a whole number of at least 0 frames, got -1"),
    (lambda: CoDelay(2).init_state(1), "does not know the shape of a frame yet"),
]


@pytest.mark.parametrize(("make", "message"), BAD_SETTINGS)
def test_settings_that_no_layer_has(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_frames_of_another_shape() -> None:
    layer, frame = SUBJECTS["single-output block"].built(), np.zeros((2, 6), np.float32)
    with pytest.raises(ShapeError, match=r"takes one frame per stream, \(B, C\).*got \(2, 3, 6\)"):
        layer.call_step(np.zeros((2, 3, 6), np.float32))
    with pytest.raises(ShapeError, match=r"call_steps takes frames of each stream.*got \(2, 6\)"):
        layer.call_steps(frame)
    layer.call_step(frame)
    with pytest.raises(ShapeError, match=r"holds the state of 2 streams and got frames of 3; call clean_state\(\)"):
        layer.call_step(np.zeros((3, 6), np.float32))
    with pytest.raises(ShapeError, match="one bool for each of the 2 held streams"):
        layer.reset_rows(np.array([True]))
    with pytest.raises(ShapeError, match="takes a state of arrays"):
        layer.set_state(SUBJECTS["retroactive block"].built().init_state(2))


def test_a_model_says_what_it_takes() -> None:
    model = SUBJECTS["CoOadTR-b1"].built()
    with pytest.raises(ShapeError, match=r"takes 6 channels, got \(2, 5\)"):
        model.stateless_step(np.zeros((2, 5), np.float32), model.init_state(2))
    with pytest.raises(ShapeError, match="frames of 3 streams with a state of 2"):
        model.stateless_step(np.zeros((3, 6), np.float32), model.init_state(2))


def test_queries_without_as_many_values() -> None:
    layer = CoSiMultiHeadAttention(4, 2, 3)
    with pytest.raises(ShapeError, match="takes as many queries as values and keys"):
        layer.call_steps(np.zeros((1, 3, 6), np.float32), np.zeros((1, 2, 6), np.float32))
    with pytest.raises(ShapeError, match=r"takes clips \(B, T, C\), got query of shape \(1, 6\)"):
        layer.build((1, 6))


def test_a_held_state_is_not_for_graphs() -> None:
    layer = SUBJECTS["single-output block"].built()
    layer.call_mode = "step"
    with pytest.raises(ConfigError, match=r"use stateless_step\(inputs, state\) there"):
        layer(keras.Input((6,)))


def test_weights_that_do_not_fit() -> None:
    block = SUBJECTS["pre-norm block"].built()
    arrays = to_torch(block)
    with pytest.raises(CheckpointError, match=r"lack attention_norm\.weight"):
        from_torch(block, {name: array for name, array in arrays.items() if name != "attention_norm.weight"})
    with pytest.raises(CheckpointError, match=r"has no place for other\.weight"):
        from_torch(block, {**arrays, "other.weight": np.zeros(1)})
    with pytest.raises(CheckpointError, match=r"attention_norm\.weight has shape \(3,\), CoSi\w+ wants \(6,\)"):
        from_torch(block, {**arrays, "attention_norm.weight": np.zeros(3)})
    with pytest.raises(ConfigError, match="heads of E / H channels; this one has 2 heads of 4 and 3 channels"):
        to_torch(SUBJECTS["single-output attention"].built())
    with pytest.raises(ConfigError, match="CoDelay has no counterpart"):
        to_torch(SUBJECTS["delay"].built())
