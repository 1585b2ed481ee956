"""Weights between these layers and the PyTorch layers of `coadtr.layers`, as arrays by name, both ways.

Nothing here needs PyTorch: a state dict is a mapping of names to arrays, as safetensors or ``state_dict()`` give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from coadtr.errors import CheckpointError, ConfigError
from coadtr.keras.encoder import ContinualBlock
from coadtr.keras.model import CoOadTR
from coadtr.keras.multi_head import ContinualAttention
from coadtr.keras.positions import CircularPositionalEncoding
from coadtr.keras.stack import CoSiTransformerStack, CoTransformerEncoder

__all__ = ["Arrays", "from_torch", "load_weights", "state_dict", "to_torch"]

Arrays = dict[str, NDArray[Any]]
WITH_COUNTERPART = (
    ContinualAttention,
    ContinualBlock,
    CoTransformerEncoder,
    CoSiTransformerStack,
    CircularPositionalEncoding,
)


def to_torch(layer: Any) -> Arrays:
    """Return a layer's weights under the names, and in the layout, of its counterpart in `coadtr.layers`.

    Args:
        layer: A built attention layer, block, :class:`CoTransformerEncoder`, :class:`CoSiTransformerStack` or
            :class:`CircularPositionalEncoding`. Heads are E / H wide.

    Returns:
        Arrays by name, which ``load_state_dict`` takes once ``torch.from_numpy`` has made tensors of them.

    Raises:
        ConfigError: If the layer has no counterpart there, or no weights yet.

    Example:
        >>> from coadtr.keras import CoSiMultiHeadAttention
        >>> layer = CoSiMultiHeadAttention(4, num_heads=2, key_dim=3, use_bias=False)
        >>> layer.build((None, 4, 6))
        >>> {name: array.shape for name, array in to_torch(layer).items()}
        {'in_proj.weight': (18, 6), 'out_proj.weight': (6, 6)}
    """
    if isinstance(layer, WITH_COUNTERPART) and not layer.built:
        raise ConfigError(f"{type(layer).__name__} has no weights yet: call it or build(...) it first")
    if isinstance(layer, ContinualAttention):
        return _attention_to(layer)
    if isinstance(layer, CircularPositionalEncoding):
        return {"table": _array(layer.table)}
    if isinstance(layer, ContinualBlock):
        arrays = _named("attention", to_torch(layer.att))
        for name, part in _block_parts(layer).items():
            arrays |= _named(name, _affine_to(part))
        return arrays
    return {name: array for prefix, block in _stacked(layer) for name, array in _named(prefix, to_torch(block)).items()}


def from_torch(layer: Any, arrays: Mapping[str, Any]) -> None:
    """Set a layer's weights from those of its counterpart in `coadtr.layers`.

    Args:
        layer: A built layer, as :func:`to_torch` takes it.
        arrays: Its counterpart's state dict, as NumPy arrays or CPU tensors.

    Raises:
        CheckpointError: If a weight is missing, left over or of another shape.
        ConfigError: If the layer has no counterpart there, or no weights yet.

    Example:
        >>> from coadtr.keras import CoSiTransformerEncoder
        >>> block = CoSiTransformerEncoder(4, 6, num_heads=2, ff_dim=8, key_dim=3)
        >>> block.build((None, None, 6))
        >>> arrays = {name: array + 1 for name, array in to_torch(block).items()}
        >>> from_torch(block, arrays)
        >>> bool((to_torch(block)["attention_norm.weight"] == 2).all())
        True
    """
    given = {name: np.asarray(array) for name, array in arrays.items()}
    wanted = to_torch(layer)
    missing = [name for name in wanted if name not in given and not _is_spare_bias(name)]
    if missing:
        raise CheckpointError(f"the weights lack {', '.join(missing[:5])}; are they of a layer with the same settings?")
    if left := [name for name in given if name not in wanted]:
        raise CheckpointError(
            f"{type(layer).__name__} has no place for {', '.join(left[:5])}; are its settings other ones?"
        )
    for name, array in given.items():
        if array.shape != wanted[name].shape:
            raise CheckpointError(f"{name} has shape {array.shape}, {type(layer).__name__} wants {wanted[name].shape}")
    _set(layer, {name: given.get(name, np.zeros_like(array)) for name, array in wanted.items()})


def state_dict(model: CoOadTR) -> Arrays:
    """Return a model's weights under the names of `coadtr.models.CoOadTR`.

    Raises:
        CheckpointError: If a bias of the attention's outputs, which that model does not have, is not zero.

    Example:
        >>> model = CoOadTR(input_dim=6, num_classes=3, seq_len=4, embed_dim=8, num_heads=2, ff_dim=8)
        >>> list(state_dict(model))[:3]
        ['inputs.embed.weight', 'inputs.embed.bias', 'positions.table']
    """
    arrays = _all_weights(model)
    # The projections of tokens may have biases there, the one of outputs has none.
    spare = [name for name in arrays if name.endswith("out_proj.bias")]
    if learned := [name for name in spare if arrays[name].any()]:
        raise CheckpointError(
            f"{learned[0]} is not zero, and the PyTorch model has no such bias: set it to zeros, and train with "
            "trainable=False on each block's att.output_dense.bias"
        )
    return {name: array for name, array in arrays.items() if name not in spare}


def _all_weights(model: CoOadTR) -> Arrays:
    arrays: Arrays = {}
    if model.normalise:
        arrays |= {f"inputs.{name}": _array(getattr(model, name)) for name in ("mean", "scale")}
    for name, part in (("inputs.embed", model.embedding), ("norm", model.norm), ("head", model.head)):
        weight, bias = part.weights
        arrays |= {f"{name}.weight": _array(weight).T, f"{name}.bias": _array(bias)}
        if part is model.embedding:
            for prefix, layer in (("positions", model.encoding), ("encoder", model.encoder)):
                arrays |= {f"{prefix}.{inner}": array for inner, array in to_torch(layer).items()}
    return arrays


def load_weights(model: CoOadTR, weights: dict[str, Any], *, source: str = "the weights") -> None:
    """Set a model's weights from those of `coadtr.models.CoOadTR`, by name.

    Args:
        model: The model.
        weights: Arrays, or CPU tensors, by name.
        source: What holds them, for messages.

    Raises:
        CheckpointError: If a weight is missing, left over, of another shape, or not finite.
    """
    given = {name: np.asarray(array, dtype=np.float32) for name, array in weights.items()}
    wanted = {name: array for name, array in _all_weights(model).items() if not name.endswith("out_proj.bias")}
    if missing := [name for name in wanted if name not in given]:
        raise CheckpointError(f"{source}: lacks {', '.join(missing[:5])}; are the weights of other settings?")
    if left := [name for name in given if name not in wanted]:
        raise CheckpointError(f"{source}: the model has no place for {', '.join(left[:5])}; are its settings others?")
    for name, array in given.items():
        if array.shape != wanted[name].shape:
            raise CheckpointError(f"{source}: {name} has shape {array.shape}, the model wants {wanted[name].shape}")
        if not np.isfinite(array).all():
            raise CheckpointError(f"{source}: {name} holds values that are not finite; export another training state")
    if model.normalise:
        model.mean.assign(given["inputs.mean"])
        model.scale.assign(given["inputs.scale"])
    for name, part in (("inputs.embed", model.embedding), ("norm", model.norm), ("head", model.head)):
        part.set_weights([given[f"{name}.weight"].T, given[f"{name}.bias"]])
    for prefix, layer in (("positions.", model.encoding), ("encoder.", model.encoder)):
        from_torch(
            layer, {name.removeprefix(prefix): array for name, array in given.items() if name.startswith(prefix)}
        )


def _is_spare_bias(name: str) -> bool:
    """Tell whether a weight is a bias that the counterpart may do without: one of zeros is the same."""
    return name.endswith(("in_proj.bias", "out_proj.bias"))


def _set(layer: Any, arrays: Arrays) -> None:
    if isinstance(layer, ContinualAttention):
        _attention_from(layer, arrays)
    elif isinstance(layer, CircularPositionalEncoding):
        layer.table.assign(arrays["table"])
    elif isinstance(layer, ContinualBlock):
        _set(layer.att, _below("attention", arrays))
        for name, part in _block_parts(layer).items():
            part.set_weights(_turned(_below(name, arrays)))
    else:
        for prefix, block in _stacked(layer):
            _set(block, _below(prefix, arrays))


def _stacked(layer: Any) -> list[tuple[str, Any]]:
    """Name the blocks of a stack as its counterpart does."""
    if isinstance(layer, CoSiTransformerStack):
        return [(f"blocks.{index}", block) for index, block in enumerate(layer.blocks)]
    if not isinstance(layer, CoTransformerEncoder):
        raise ConfigError(f"{type(layer).__name__} has no counterpart in coadtr.layers; give one of the layers listed")
    middle = [f"middle.{index}" for index in range(layer.depth - 2)]
    names = ["first"] * (layer.depth > 1) + middle + ["last"]
    return list(zip(names, layer.blocks, strict=True))


def _block_parts(block: Any) -> dict[str, Any]:
    return {
        "attention_norm": block.ln1,
        "feed_forward.0": block.ffn_in,
        "feed_forward.3": block.ffn_out,
        "feed_forward_norm": block.ln2,
    }


def _array(variable: Any) -> NDArray[Any]:
    return np.array(ops.convert_to_numpy(variable))


def _named(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _below(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(f"{prefix}."): array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


def _affine_to(part: Any) -> Arrays:
    """Return weight and bias of a dense layer or a layer norm; PyTorch has outputs before inputs."""
    weight, bias = (_array(variable) for variable in part.weights)
    return {"weight": weight.T, "bias": bias}


def _turned(arrays: Arrays) -> list[NDArray[Any]]:
    return [arrays["weight"].T, arrays["bias"]]


def _attention_to(layer: Any) -> Arrays:
    inward = (layer.query_dense, layer.key_dense, layer.value_dense)
    width = layer.query_dense.kernel.shape[0]
    joined, out = layer.num_heads * layer.key_dim, layer.output_dense.kernel.shape[-1]
    if not (layer.key_dim == layer.value_dim and joined == width == out):
        raise ConfigError(
            f"an attention layer of coadtr.layers has heads of E / H channels; this one has {layer.num_heads} heads of "
            f"{layer.key_dim} and {layer.value_dim} channels from {width} to {out}"
        )
    if getattr(layer, "_use_gate", False):
        raise ConfigError("an attention layer of coadtr.layers has no gate; use_gate=True has no counterpart")
    arrays = {"in_proj.weight": np.concatenate([_array(part.kernel).reshape(width, joined).T for part in inward])}
    if layer.use_bias:
        arrays["in_proj.bias"] = np.concatenate([_array(part.bias).ravel() for part in inward])
    arrays["out_proj.weight"] = _array(layer.output_dense.kernel).reshape(joined, out).T
    if layer.use_bias:
        arrays["out_proj.bias"] = _array(layer.output_dense.bias)
    return arrays


def _attention_from(layer: Any, arrays: Arrays) -> None:
    shape = (-1, layer.num_heads, layer.key_dim)
    weights = np.split(arrays["in_proj.weight"], 3)
    biases = np.split(arrays["in_proj.bias"], 3) if layer.use_bias else []
    for index, part in enumerate((layer.query_dense, layer.key_dense, layer.value_dense)):
        part.kernel.assign(weights[index].T.reshape(shape))
        if layer.use_bias:
            part.bias.assign(biases[index].reshape(shape[1:]))
    layer.output_dense.kernel.assign(arrays["out_proj.weight"].T.reshape(*shape[1:], -1))
    if layer.use_bias:
        layer.output_dense.bias.assign(arrays["out_proj.bias"])
