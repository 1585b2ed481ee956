"""What is refused, and the words for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.keras.subjects import SUBJECTS, WINDOW, array, keras

from coadtr.errors import CheckpointError, ConfigError, ShapeError  # isort: skip
from coadtr.keras import (  # isort: skip
    CircularPositionalEncoding,
    CoDelay,
    CoOadTR,
    CoReMultiHeadAttention,
    CoSiMultiHeadAttention,
    CoSiTransformerEncoder,
    CoTransformerEncoder,
    compile_step,
    cyclic_sinusoidal_table,
    from_torch,
    to_torch,
)

BAD_SETTINGS: list[tuple[Callable[[], Any], str]] = [
    (lambda: CoSiMultiHeadAttention(0, 2, 4), "seq_len must be a whole number of at least 1 frame, got 0"),
    (lambda: CoSiMultiHeadAttention(4, 2, 4, attention_axes=2), r"attends over time.*got attention_axes=2"),
    (lambda: CoSiMultiHeadAttention(4, 2, 4, sliding_window=3), r"seq_len=4 is the window; leave sliding_window=3 out"),
    (lambda: CoSiMultiHeadAttention(4, 2, 4, dropout=2.0), "dropout must be from 0 to below 1, got 2.0"),
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
    for rows, given in ((np.array([True]), r"bool of shape \(1,\)"), (np.array([0, 1]), r"int\d\d of shape \(2,\)")):
        with pytest.raises(ShapeError, match=f"one bool for each of the 2 streams, got {given}"):
            layer.reset_rows(rows)
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
    layer, frame = SUBJECTS["single-output block"].built(), keras.ops.zeros((1, 6))
    words = pytest.raises(ConfigError, match=r"use stateless_step\(inputs, state\) there")
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        with words:
            tf.function(layer.call_step, autograph=False)(frame)
    elif keras.config.backend() == "jax":
        import jax  # noqa: PLC0415

        with words:
            jax.jit(layer.call_step)(frame)
        with pytest.raises(ConfigError, match="keeps its state outside of compiled functions"):
            jax.jit(lambda more: layer.call_step(frame + more))(frame)
    assert layer.get_state() is None


@pytest.mark.parametrize("name", ["single-output attention", "retroactive attention"])
def test_masks_of_a_step_are_over_the_window(name: str) -> None:
    layer, frame = SUBJECTS[name].built(), np.zeros((2, 6), np.float32)
    for shape in ((2, WINDOW), (WINDOW,), (2, 1, 3), (2, 2, WINDOW)):
        with pytest.raises(ShapeError, match=r"attention_mask of a step must be \(B or 1, .*, over the last 5 frames"):
            layer.call_step(frame, attention_mask=np.ones(shape, bool))


@pytest.mark.parametrize("name", ["single-output attention", "retroactive attention"])
def test_masks_of_frames_are_of_rank_two(name: str) -> None:
    layer, clip = SUBJECTS[name].built(), np.zeros((2, 4, 6), np.float32)
    with pytest.raises(ShapeError, match=r"query_mask must be \(B, T\), got \(2, 4, 4\); a mask of pairs of frames is"):
        layer(clip, clip, None, np.ones((2, 4, 4), bool))
    with pytest.raises(ShapeError, match="clips of at least one frame"):
        layer(clip[:, :0], clip[:, :0])


def test_causality_among_other_numbers_of_queries() -> None:
    layer, clip = SUBJECTS["single-output attention"].built(), np.zeros((2, 4, 6), np.float32)
    with pytest.raises(ShapeError, match="use_causal_mask needs as many queries as values, got 3 and 4"):
        layer(clip[:, 1:], clip, use_causal_mask=True)


@pytest.mark.parametrize("name", ["single-output attention", "single-output block", "stack of depth 2", "positions"])
def test_channels_of_another_layer(name: str) -> None:
    layer = SUBJECTS[name].built()
    with pytest.raises(ShapeError, match=r"takes 6 channels, got \(2, 1\); build another layer"):
        layer.call_step(np.zeros((2, 1), np.float32))
    with pytest.raises(ShapeError, match="takes 6 channels"):
        layer.call_steps(np.zeros((2, 3, 1), np.float32))
    with pytest.raises(ShapeError, match="frames of 2 streams with a state of 3"):
        layer.stateless_steps(np.zeros((2, 3, 6), np.float32), layer.init_state(3))


def test_a_block_of_another_width_than_its_inputs() -> None:
    with pytest.raises(ShapeError, match="CoReTransformerEncoder takes embed_dim=8 channels, got shape"):
        CoTransformerEncoder(2, WINDOW, 8, 2, 8).build((None, 5, 6))


@pytest.mark.parametrize("name", ["single-output attention", "single-output block", "encoder of depth 3", "positions"])
def test_a_layer_without_weights_says_so(name: str) -> None:
    layer = SUBJECTS[name].make()
    with pytest.raises(ConfigError, match=r"has no weights yet: call it, or build\(\(None, None, C\)\), first"):
        layer.stateless_step(np.zeros((1, 6), np.float32), layer.init_state(1))
    with pytest.raises(ConfigError, match="has no weights yet"):
        compile_step(layer)


def test_states_that_are_none() -> None:
    layer = SUBJECTS["single-output attention"].built()
    keys, values, frames = (array(leaf) for leaf in layer.init_state(2))
    for state in (
        5,
        [keys, values],
        (keys, values, frames[:1]),
        (keys, values, frames + 0.5),
        (keys[:, 1:], values, frames),
    ):
        with pytest.raises(ShapeError, match="takes a state of arrays"):
            layer.set_state(state)


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
