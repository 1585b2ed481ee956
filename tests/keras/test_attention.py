"""The attention layers beside ``keras.layers.MultiHeadAttention``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.keras.subjects import TOLERANCE, array, keras

from coadtr.keras import CoReMultiHeadAttention, CoSiMultiHeadAttention  # isort: skip

N = 10

# Of Keras, where a clip has one frame.
pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*You are using a softmax over axis:UserWarning")


@pytest.fixture
def frames(rng: np.random.Generator) -> list[NDArray[Any]]:
    """Return queries, values and keys of two streams, of widths of their own."""
    return [rng.normal(size=(2, N + 2, width)).astype(np.float32) for width in (7, 5, 3)]


def pair(kind: Any, frames: list[NDArray[Any]], **settings: Any) -> tuple[Any, Any]:
    """Make Keras's layer and ours with its weights."""
    theirs = keras.layers.MultiHeadAttention(num_heads=4, key_dim=6, **settings)
    ours = kind(N, num_heads=4, key_dim=6, **settings)
    query, value, key = (x[:, :N] for x in frames)
    attend(theirs, query, value, key)
    ours(query, value, key)
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def attend(theirs: Any, *parts: Any, **options: Any) -> Any:
    """Call Keras's layer for its scores too: its fused kernel on JAX fails where values are not as wide as keys."""
    outputs, _ = theirs(*parts, return_attention_scores=True, **options)
    return outputs


@pytest.mark.parametrize("settings", [{}, {"value_dim": 5}, {"use_bias": False}, {"output_shape": 8}])
def test_single_output_attention_is_the_last_output(frames: list[NDArray[Any]], settings: dict[str, Any]) -> None:
    theirs, ours = pair(CoSiMultiHeadAttention, frames, **settings)
    clip = [x[:, :N] for x in frames]
    wanted, wanted_scores = theirs(*clip, return_attention_scores=True)
    np.testing.assert_allclose(array(ours(*clip)), array(wanted)[:, -1:], **TOLERANCE)
    answers, scores = ours.call_steps(*clip, return_attention_scores=True)
    np.testing.assert_allclose(array(answers)[:, -1], array(wanted)[:, -1], **TOLERANCE)
    np.testing.assert_allclose(array(scores)[:, :, -1], array(wanted_scores)[:, :, -1], **TOLERANCE)
    for end in (N + 1, N + 2):
        found = ours.call_step(*(x[:, end - 1] for x in frames))
        whole = attend(theirs, *(x[:, end - N : end] for x in frames))
        np.testing.assert_allclose(array(found), array(whole)[:, -1], **TOLERANCE)


def test_retroactive_attention_is_all_outputs(frames: list[NDArray[Any]]) -> None:
    theirs, ours = pair(CoReMultiHeadAttention, frames, value_dim=5)
    clip = [x[:, :N] for x in frames]
    np.testing.assert_allclose(array(ours(*clip)), array(attend(theirs, *clip)), **TOLERANCE)
    for end in range(1, N + 3):
        found, scores = ours.call_step(*(x[:, end - 1] for x in frames), return_attention_scores=True)
        wanted, weights = theirs(*(x[:, max(0, end - N) : end] for x in frames), return_attention_scores=True)
        kept = min(end, N)
        np.testing.assert_allclose(array(found)[:, N - kept :], array(wanted), **TOLERANCE)
        np.testing.assert_allclose(array(scores)[:, :, N - kept :, N - kept :], array(weights), **TOLERANCE)
        assert not array(found)[:, : N - kept].any()


def test_a_mask_of_the_window_leaves_frames_out(frames: list[NDArray[Any]], rng: np.random.Generator) -> None:
    theirs, ours = pair(CoSiMultiHeadAttention, frames)
    mask = rng.random((2, 1, N)) < 0.5
    mask[..., -1] = True
    for t in range(N + 1):
        ours.call_step(*(x[:, t] for x in frames))
    found = ours.call_step(*(x[:, N + 1] for x in frames), attention_mask=mask)
    wanted = theirs(*(x[:, 2:] for x in frames), attention_mask=mask)
    np.testing.assert_allclose(array(found), array(wanted)[:, -1], **TOLERANCE)


def test_masks_of_several_steps(frames: list[NDArray[Any]], rng: np.random.Generator) -> None:
    _, ours = pair(CoSiMultiHeadAttention, frames)
    masks = rng.random((2, N + 2, N)) < 0.6
    wanted = [
        array(ours.call_step(*(x[:, t] for x in frames), attention_mask=masks[:, t : t + 1])) for t in range(N + 2)
    ]
    ours.clean_state()
    first = array(ours.call_steps(*(x[:, :7] for x in frames), masks[:, :7]))
    later = array(ours.call_steps(*(x[:, 7:] for x in frames), attention_mask=masks[:, 7:]))
    np.testing.assert_allclose(np.concatenate([first, later], axis=1), np.stack(wanted, axis=1), **TOLERANCE)


@pytest.mark.parametrize("kind", [CoSiMultiHeadAttention, CoReMultiHeadAttention])
def test_a_mask_that_leaves_nothing_is_met_as_keras_does(kind: Any, frames: list[NDArray[Any]]) -> None:
    theirs, ours = pair(kind, frames)
    nothing = np.zeros((1, 1, N), bool)
    found = [array(ours.call_step(*(x[:, t] for x in frames), attention_mask=nothing)) for t in range(N)][-1]
    wanted = array(theirs(*(x[:, :N] for x in frames), attention_mask=np.zeros((2, N, N), bool)))
    np.testing.assert_allclose(found, wanted if found.ndim == 3 else wanted[:, -1], **TOLERANCE)


@pytest.mark.parametrize("shape", [(2, N + 2, N + 2), (2, 4, N + 2, N + 2), (N + 2, N + 2)])
def test_masks_of_a_clip(frames: list[NDArray[Any]], rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    mask = (rng.random(shape) < 0.5) | np.eye(N + 2, dtype=bool)
    for kind in (CoSiMultiHeadAttention, CoReMultiHeadAttention):
        theirs, ours = pair(kind, frames)
        wanted = array(attend(theirs, *(x[:, 2:] for x in frames), attention_mask=mask[..., 2:, 2:]))
        found = array(ours(*frames, attention_mask=mask))
        np.testing.assert_allclose(found, wanted[:, -found.shape[1] :], **TOLERANCE)


def test_symbolic_scores_have_the_shape_of_real_ones() -> None:
    query, value = np.zeros((2, 4, 6), np.float32), np.zeros((2, 5, 6), np.float32)
    layer = CoReMultiHeadAttention(N, 2, 3)
    _, real = layer(query, value, return_attention_scores=True)
    _, symbolic = layer(keras.Input((4, 6)), keras.Input((5, 6)), return_attention_scores=True)
    assert tuple(symbolic.shape[1:]) == tuple(real.shape[1:]) == (2, 4, 5)


def test_a_mask_over_pairs_of_frames(frames: list[NDArray[Any]], rng: np.random.Generator) -> None:
    theirs, ours = pair(CoReMultiHeadAttention, frames)
    mask = (rng.random((2, N, N)) < 0.5) | np.eye(N, dtype=bool)
    for t in range(N + 1):
        ours.call_step(*(x[:, t] for x in frames))
    found = ours.call_step(*(x[:, N + 1] for x in frames), attention_mask=mask)
    wanted = theirs(*(x[:, 2:] for x in frames), attention_mask=mask)
    np.testing.assert_allclose(array(found), array(wanted), **TOLERANCE)


def test_padding_before_a_clip_is_the_warm_up(stream: NDArray[Any]) -> None:
    layer = CoSiMultiHeadAttention(N, num_heads=2, key_dim=3)
    short = stream[:, :4] + 3
    padded = np.concatenate([np.zeros((2, N - 4, 6), np.float32), short], axis=1)
    masked = keras.layers.Masking()(padded)
    np.testing.assert_allclose(
        array(layer(masked, masked))[:, 0], array(layer.call_steps(short, short))[:, -1], **TOLERANCE
    )


def test_gradients_flow_through_a_training_step(stream: NDArray[Any], rng: np.random.Generator) -> None:
    inputs = keras.Input((N, 6))
    x = CoReMultiHeadAttention(N, 2, 3)(inputs, inputs)
    x = CoSiMultiHeadAttention(N, 2, 3, dropout=0.2)(x, x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x[:, 0]))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    clips, labels = rng.normal(size=(64, N, 6)).astype(np.float32), np.repeat([0, 1], 32)
    clips[32:, :, 0] += 2
    losses = model.fit(clips, labels, batch_size=16, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.output_shape == (None, 2)
