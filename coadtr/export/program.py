"""A checkpoint as a ``torch.export`` program (``.pt2``): its step, for torch without this project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import torch

from coadtr.data.atomic import replacing
from coadtr.export.description import describe
from coadtr.export.graph import StepGraph, trace
from coadtr.export.target import require_target
from coadtr.export.verification import Agreement, compare, require_agreement
from coadtr.layers import in_precision
from coadtr.runtime.description import KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from coadtr.checkpoint import Checkpoint
    from coadtr.layers.precision import Precision

__all__ = ["PRECISIONS", "export_program"]

PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "bfloat16")


def export_program(
    checkpoint: Checkpoint, out: str | Path, *, precision: str = "float32", overwrite: bool = False
) -> Agreement:
    """Write a checkpoint's step as a ``torch.export`` program.

    ``torch.export.load(out).module()`` takes ``frame`` ``(B, D)`` float32 and the state's tensors, and returns logits
    ``(B, C)`` float32 and the next state's tensors. The extra file ``coadtr.json`` in it describes them.

    Args:
        checkpoint: What is exported.
        out: The file, ``*.pt2``.
        precision: ``"float32"`` or ``"bfloat16"``, of weights and state.
        overwrite: Replace a file that is there.

    Returns:
        How far its scores are from the model's.

    Raises:
        ConfigError: If the precision is unknown or ``out`` is there already.
        CheckpointError: If the program's scores differ from the model's by more than the precision explains.
    """
    path = Path(out)
    require_target(path, precision, PRECISIONS, kind="a .pt2 file", overwrite=overwrite)
    graph = StepGraph(in_precision(checkpoint.model, cast("Precision", precision)).eval())
    with replacing(path) as part:
        description = describe(checkpoint, graph, form="coadtr-pt2", precision=precision)
        # A file object, because `save` would complain of the name that a part of a file has.
        with part.open("wb") as file:
            torch.export.save(trace(graph), file, extra_files={f"{KEY}.json": description})
        agreement = compare(checkpoint, _runner(part, graph))
        require_agreement(agreement, precision, str(path))
    return agreement


def _runner(part: Path, graph: StepGraph) -> Any:
    with part.open("rb") as file:
        program = torch.export.load(file).module()
    dtypes = [leaf.dtype for leaf in graph.fresh(1)]

    def step(frame: NDArray[np.float32], state: Sequence[NDArray[Any]]) -> tuple[Any, list[Any]]:
        # numpy has no bfloat16: between the steps its values lie in float32, which holds them all.
        given = [torch.from_numpy(leaf).to(dtype) for leaf, dtype in zip(state, dtypes, strict=True)]
        logits, *after = program(torch.from_numpy(frame), *given)
        return logits.numpy(), [(leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy() for leaf in after]

    return step
