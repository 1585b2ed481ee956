"""What an exported file says of itself, so that it can be fed and read without this project's training code."""

from __future__ import annotations

import base64
import json
import math
import zlib
from typing import TYPE_CHECKING, Any

import torch

import coadtr
from coadtr.runtime.description import VERSION

if TYPE_CHECKING:
    from torch import Tensor

    from coadtr.checkpoint import Checkpoint
    from coadtr.export.graph import StepGraph

__all__ = ["describe"]


def describe(checkpoint: Checkpoint, graph: StepGraph, *, form: str, precision: str, **more: Any) -> str:
    """Describe an exported step as a JSON text.

    Args:
        checkpoint: Where it comes from.
        graph: The step.
        form: ``"coadtr-onnx"`` or another name of a format.
        precision: Of the weights.
        more: What the format adds, as plain values.
    """
    return json.dumps(
        {
            "format": form,
            "version": VERSION,
            "coadtr": coadtr.__version__,
            "precision": precision,
            "spec": checkpoint.spec.to_dict(),
            "state": [_leaf(name, leaf[0]) for name, leaf in zip(graph.names, graph.fresh(1), strict=True)],
            "source": {"checkpoint": checkpoint.path.resolve().name, "weights_sha256": checkpoint.weights_sha256},
            **more,
        },
        allow_nan=False,  # other readers of JSON know no infinity
    )


def _leaf(name: str, values: Tensor) -> dict[str, Any]:
    """Describe a tensor of a fresh stream's state, without its stream dimension."""
    values = values.detach().cpu().contiguous()
    leaf: dict[str, Any] = {
        "name": name,
        "shape": list(values.shape),
        "dtype": str(values.dtype).removeprefix("torch."),
    }
    first = values.flatten()[0].item() if values.numel() else 0
    if math.isfinite(first) and bool((values == first).all()):
        return {**leaf, "fill": first}
    packed = zlib.compress(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return {**leaf, "values": base64.b64encode(packed).decode("ascii")}
