"""Weights in fewer bytes: what a step at batch size one takes is mostly the time to read them."""

from __future__ import annotations

import copy
from typing import Literal, TypeVar, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError

__all__ = ["Int8Linear", "Precision", "computes_like", "in_precision"]

M = TypeVar("M", bound=nn.Module)

Precision = Literal["float64", "float32", "bfloat16", "int8"]


class Int8Linear(nn.Module):
    """Linear layer with 8-bit integer weights, one scale per output channel, and bfloat16 activations.

    The weights are rounded to the nearest of 255 values, symmetric about zero; activations are not quantised.

    Args:
        linear: The layer whose weights are taken.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(64, 4)
        >>> x = torch.randn(1, 64)
        >>> torch.allclose(Int8Linear(linear)(x.bfloat16()).float(), linear(x), atol=0.05)
        True
    """

    integers: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        # The scale is rounded first, so that the integers are the nearest to what will be multiplied.
        scale = (weight.abs().amax(1).clamp(min=1e-30) / 127).bfloat16()
        integers = (weight / scale.float().unsqueeze(1)).round().clamp(-127, 127)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("integers", integers.to(torch.int8))
        self.register_buffer("scale", scale)
        bias: Tensor | None = linear.bias  # torch's stubs leave the None out
        self.register_buffer("bias", None if bias is None else bias.detach().bfloat16())

    @property
    def weight(self) -> Tensor:
        """The weights that the integers stand for, ``(out, in) bfloat16``."""
        return self.integers.to(self.scale.dtype) * self.scale.unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out) bfloat16``."""
        x = x.to(self.scale.dtype)
        # The packed kernel reads 16 channels at a time, and past the end of rows that are no multiple of that.
        if x.device.type == "cpu" and self.in_features % 16 == 0:
            out = torch._weight_int8pack_mm(x.reshape(-1, self.in_features), self.integers, self.scale)
            out = out.unflatten(0, x.shape[:-1])
        else:
            out = F.linear(x, self.integers.to(x.dtype)) * self.scale
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        """Show the sizes in the module's printed form."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def computes_like(linear: nn.Module) -> Tensor:
    """Return a tensor of the dtype and on the device in which a linear layer answers, without working any out.

    Example:
        >>> computes_like(Int8Linear(torch.nn.Linear(2, 2))).dtype
        torch.bfloat16
    """
    return linear.scale if isinstance(linear, Int8Linear) else cast("Tensor", linear.weight)


def in_precision(module: M, precision: Precision) -> M:
    """Return a copy of a module with its weights in another precision, for inference.

    Args:
        module: A layer or model.
        precision: A floating point type for weights, activations and state; ``"int8"`` stores the weights of the linear
            layers (of ``nn.Linear`` itself, not of classes derived from it) as 8-bit integers with a scale per output
            channel, and computes in bfloat16.

    Returns:
        The copy; the module is left as it is. What a module names in ``full_precision`` (statistics of its input, say)
        stays as it was in bfloat16 and int8.

    Raises:
        ConfigError: If the precision is unknown, or is a floating point type and the module is in 8 bits already.

    Example:
        >>> import torch
        >>> in_precision(torch.nn.Linear(2, 2), "bfloat16").weight.dtype
        torch.bfloat16
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}; got {precision!r}")
    lowered = copy.deepcopy(module).requires_grad_(False)
    if precision != "int8" and any(isinstance(part, Int8Linear) for part in module.modules()):
        raise ConfigError(
            f"the module's weights are 8-bit integers already: make its {precision} form from the original"
        )
    if precision in ("float64", "float32"):
        return lowered.to(getattr(torch, precision))
    if precision == "int8" and type(lowered) is nn.Linear:
        raise ConfigError("an nn.Linear by itself has nothing to put its 8-bit form into; take Int8Linear(layer)")
    made: dict[nn.Module, Int8Linear] = {}  # a layer that is used in two places stays one
    for parent in list(lowered.modules()) if precision == "int8" else []:
        for name, part in list(parent._modules.items()):
            if type(part) is nn.Linear:
                if part not in made:
                    made[part] = Int8Linear(part)
                setattr(parent, name, made[part])
    lowered.to(torch.bfloat16)
    for part, original in zip(lowered.modules(), module.modules(), strict=True):
        for name in getattr(original, "full_precision", ()):
            if (kept := getattr(original, name, None)) is not None:
                setattr(part, name, kept.clone())
    return lowered
