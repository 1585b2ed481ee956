"""CoOadTR as a Keras model: online action detection frame by frame."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from coadtr.errors import ConfigError, ShapeError
from coadtr.keras.positions import CircularPositionalEncoding, clip_index
from coadtr.keras.ring import Tensor
from coadtr.keras.stack import CoTransformerEncoder
from coadtr.keras.streaming import Streaming

__all__ = ["CoOadTR"]


@keras.saving.register_keras_serializable(package="coadtr")
class CoOadTR(Streaming, keras.Model):  # type: ignore[misc]
    """Continual OadTR: linear embedding, circular positions, continual encoder, layer norm, linear classifier.

    ::

        call(clip)          (B, T, D) -> (B, C)      logits of the last frame, from the last N frames
        call_step(frame)    (B, D)    -> (B, C)      the same for the N frames that end with this one
        call_steps          (B, T, D) -> (B, T, C)

    A step is window-exact: it equals the clip model on the last N frames, at their positions in the stream. The weights
    are those of `coadtr.models.CoOadTR`; :func:`coadtr.keras.load` reads them from a checkpoint.

    Args:
        input_dim: Feature channels D.
        num_classes: Classes C.
        seq_len: Frames N.
        embed_dim: Width E.
        num_heads: Heads H; E is a multiple of H.
        ff_dim: Hidden width of the feed-forward networks.
        depth: Blocks: 1 for CoOadTR-b1, 2 for CoOadTR-b2.
        positions: ``"fixed"`` or ``"learned"``.
        num_positions: Embeddings P of one cycle; 2 N - 1 if 0.
        normalise: Standardise each input channel by ``mean`` and ``scale``, which are kept with the weights.
        activation: Of the feed-forward networks, by its name in Keras.
        norm_first: Pre-norm instead of post-norm.
        use_bias: Whether the attention's projections have biases.
        dropout: Dropout of embeddings and branches, in training only.
        input_dropout: Dropout of the features, in training only.
        attention_dropout: Dropout of the attention weights, in training only.
        call_mode: What calling the model does: ``"regular"`` (a clip), ``"steps"`` or ``"step"``.
        warmup: ``"mask"`` or ``"none"``.
        save_state: Save the held state with the weights.
        **kwargs: What Keras models take (``name``, ``dtype``, ...).

    Raises:
        ConfigError: If the sizes do not fit each other.

    Source: Hedegaard et al., ICLR 2023, section 4.2.

    Example:
        >>> import numpy as np
        >>> model = CoOadTR(input_dim=6, num_classes=3, seq_len=4, embed_dim=8, num_heads=2, ff_dim=8)
        >>> tuple(model.call_step(np.zeros((2, 6), "float32")).shape)
        (2, 3)
    """

    def __init__(
        self,
        *,
        input_dim: int,
        num_classes: int,
        seq_len: int = 64,
        embed_dim: int = 1024,
        num_heads: int = 8,
        ff_dim: int = 1024,
        depth: int = 1,
        positions: Any = "fixed",
        num_positions: int = 0,
        normalise: bool = False,
        activation: str = "gelu",
        norm_first: bool = False,
        use_bias: bool = False,
        dropout: float = 0.1,
        input_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        call_mode: Any = "regular",
        warmup: Any = "mask",
        save_state: bool = False,
        **kwargs: Any,
    ) -> None:
        if embed_dim % num_heads:
            raise ConfigError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
        # Keras would round raw features to half precision before the mean is taken off; this model casts by itself.
        super().__init__(autocast=False, **kwargs)
        self._settings: Any = {
            "input_dim": input_dim,
            "num_classes": num_classes,
            "seq_len": seq_len,
            "embed_dim": embed_dim,
            "num_heads": num_heads,
            "ff_dim": ff_dim,
            "depth": depth,
            "positions": positions,
            "num_positions": num_positions,
            "normalise": normalise,
            "activation": activation,
            "norm_first": norm_first,
            "use_bias": use_bias,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "attention_dropout": attention_dropout,
        }
        self.input_dim, self.num_classes, self.seq_len = input_dim, num_classes, seq_len
        policy = {"dtype": self.dtype_policy}
        self.normalise = normalise
        if normalise:
            # The mean of a raw channel may be large beside its deviation: it is taken off before anything is rounded.
            full = {"shape": (input_dim,), "trainable": False, "dtype": "float32", "autocast": False}
            self.mean = self.add_weight(name="mean", initializer="zeros", **full)
            self.scale = self.add_weight(name="scale", initializer="ones", **full)
        self.input_drop = keras.layers.Dropout(input_dropout, name="input_drop", **policy)
        self.embedding = keras.layers.Dense(embed_dim, name="embedding", **policy)
        cycle = num_positions or 2 * seq_len - 1
        self.encoding = CircularPositionalEncoding(cycle, embed_dim, positions, name="encoding", **policy)
        self.drop = keras.layers.Dropout(dropout, name="drop", **policy)
        self.encoder = CoTransformerEncoder(
            depth,
            seq_len,
            embed_dim,
            num_heads,
            ff_dim,
            dropout_rate=dropout,
            key_dim=embed_dim // num_heads,
            activation=activation,
            norm_first=norm_first,
            use_bias=use_bias,
            attention_dropout=attention_dropout,
            epsilon=1e-5,
            name="encoder",
            dtype=self.dtype_policy,
        )
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm", **policy)
        self.head = keras.layers.Dense(num_classes, name="head", **policy)
        self._set_up_streaming(call_mode, warmup, save_state)
        self.build((None, None, input_dim))

    @property
    def warmup_steps(self) -> int:
        """First steps of a stream that look back on fewer than N frames, N - 1."""
        return self.seq_len - 1

    def get_config(self) -> dict[str, Any]:
        """Return what makes a model of the same settings."""
        base = {"name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}
        return {**base, **self._settings, **self._streaming_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> CoOadTR:  # noqa: ARG003
        """Make a model of the settings that :meth:`get_config` returned."""
        dtype = config.get("dtype")
        if isinstance(dtype, dict):
            config = {**config, "dtype": keras.saving.deserialize_keras_object(dtype)}
        return cls(**config)

    def build(self, input_shape: Any) -> None:
        """Make the weights for clips ``(B, T, D)``.

        Raises:
            ShapeError: If D is another number of channels than the settings say.
        """
        if input_shape[-1] != self.input_dim:
            raise ShapeError(f"CoOadTR takes {self.input_dim} channels, got shape {tuple(input_shape)}")
        if self.embedding.built:
            return
        clip = (None, None, self._settings["embed_dim"])
        self.embedding.build((None, None, self.input_dim))
        for part in (self.encoding, self.encoder, self.norm, self.head):
            part.build(clip)
        if self._settings["use_bias"]:
            # `coadtr.models.CoOadTR` has biases where tokens are projected, and none behind the attention.
            for block in self.encoder.blocks:
                block.att.output_dense.bias.trainable = False

    def init_state(self, batch_size: int = 1) -> Any:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return self.encoder.init_state(batch_size)

    @property
    def _channels(self) -> int:
        return self.input_dim

    def _cast(self, x: Any) -> Tensor:
        return ops.cast(ops.convert_to_tensor(x), "float32" if self.normalise else self.compute_dtype)

    def embed(self, frames: Tensor, frame_index: Tensor, training: bool | None) -> Tensor:
        """Standardise, embed and encode frames ``(..., D)`` with the indices ``(...)`` in their streams."""
        if self.normalise:
            frames = ops.cast((ops.cast(frames, "float32") - self.mean) * self.scale, self.compute_dtype)
        embedded = self.embedding(self.input_drop(frames, training=training))
        return self.drop(self.encoding.encode(embedded, frame_index), training=training)

    def classify(self, encoded: Tensor) -> Tensor:
        """Map encodings ``(..., E)`` to logits ``(..., C)``."""
        return self.head(self.norm(encoded))

    def _embed_clip(self, frames: Tensor, first_frame: Any, training: bool | None) -> Tensor:
        if len(frames.shape) != 3 or frames.shape[-1] != self.input_dim:
            raise ShapeError(f"CoOadTR takes clips (B, T, {self.input_dim}), got {tuple(frames.shape)}")
        return self.embed(frames, clip_index(ops.shape(frames)[1], first_frame), training)

    def call(self, inputs: Any, first_frame: Any = None, training: bool | None = None) -> Tensor:
        """Answer the last frame of each clip, ``(B, T, D)`` to logits ``(B, C)``, from the last N frames.

        Args:
            inputs: ``(B, T, D)``.
            first_frame: ``(B,)`` index of each clip's first frame in its stream; 0 if not given.
            training: Whether dropout is on.

        Raises:
            ShapeError: If the clips are not ``(B, T, D)``.
        """
        embedded = self._embed_clip(self._cast(inputs), first_frame, training)
        return self.classify(self.encoder(embedded, training=training)[:, 0])

    def call_sequence(self, inputs: Any, first_frame: Any = None, *, training: bool | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, D)`` to logits ``(B, T, C)``: what T steps answer."""
        embedded = self._embed_clip(self._cast(inputs), first_frame, training)
        return self.classify(self.encoder.call_sequence(embedded, training=training))

    def stateless_step(self, inputs: Any, state: Any, *, training: bool | None = None) -> tuple[Tensor, Any]:
        """Answer one frame of each stream, ``(B, D)`` to logits ``(B, C)``, as a pure function.

        Raises:
            ShapeError: If the frame is not ``(B, D)``.
        """
        inputs = self._frame(inputs, state.frames.shape[0])
        encoded, state = self.encoder.stateless_step(
            self.embed(inputs, state.frames, training), state, training=training
        )
        return self.classify(encoded), state

    def stateless_steps(self, inputs: Any, state: Any, *, training: bool | None = None) -> tuple[Tensor, Any]:
        """Answer T frames of each stream, ``(B, T, D)`` to logits ``(B, T, C)``: T steps, as a pure function."""
        embedded = self._embed_clip(self._frames(inputs, state.frames.shape[0]), state.frames, training)
        encoded, state = self.encoder.stateless_steps(embedded, state, training=training)
        return self.classify(encoded), state

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return ``(B, C)``."""
        return (input_shape[0], self.num_classes)
