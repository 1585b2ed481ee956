"""An exported step against the model that it was made of, before it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch

from coadtr.errors import CheckpointError
from coadtr.layers import state_tensors
from coadtr.scoring import probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from coadtr.checkpoint import Checkpoint

__all__ = ["FRAMES", "TOLERANCE", "Agreement", "Step", "compare", "require_agreement"]

FRAMES: Final = 500
STREAMS: Final = 3
# Largest difference of a score, from 0 to 1. Below float32 it depends on the model: what is refused is nonsense.
TOLERANCE: Final = {"float32": 1e-4, "float16": 0.05, "bfloat16": 0.15, "int8": 0.35}


class Step(Protocol):
    """An exported step."""

    def __call__(
        self, frame: NDArray[np.float32], state: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """Take ``(B, D)`` and the state's arrays; return logits ``(B, C)`` and the next state's."""
        ...


@dataclass(frozen=True)
class Agreement:
    """Differences of scores (from 0 to 1) between an exported step and its model.

    Attributes:
        fresh: Largest over the frames from a stream's first on.
        warm: Largest over as many frames from a state that the model had reached by then.
        mean: Mean over all of them.
    """

    fresh: float
    warm: float
    mean: float


@torch.inference_mode()
def compare(checkpoint: Checkpoint, step: Step, *, frames: int = FRAMES, seed: int = 0) -> Agreement:
    """Run an exported step and its model side by side, from a fresh state and from a warm one.

    Args:
        checkpoint: The model, and what makes scores of its logits.
        step: The exported step.
        frames: Frames of each of the two runs.
        seed: Of the frames: normal numbers, with the channels' mean and deviation where the model knows them.
    """
    model, generator = checkpoint.model, torch.Generator().manual_seed(seed)
    state = model.init_state(STREAMS)
    differences = []
    for _ in ("fresh", "warm"):  # the second begins where the model got to in the first
        exported: list[NDArray[Any]] = [leaf.cpu().numpy().copy() for leaf in state_tensors(state)]
        worst = []
        for _ in range(frames):
            frame = _draw(checkpoint, generator)
            wanted, state = model.step(frame.to(next(model.parameters()).device, model.input_dtype), state)
            got, exported = step(frame.to(torch.float32).numpy(), exported)
            worst.append(np.abs(_scores(checkpoint, got) - _scores(checkpoint, wanted.double().cpu().numpy())))
        differences.append(np.stack(worst))
    # A difference that is not a number is the largest there is.
    fresh, warm = (float(np.nan_to_num(found, nan=np.inf).max()) for found in differences)
    return Agreement(fresh, warm, float(np.mean(differences)))


def require_agreement(agreement: Agreement, precision: str, what: str) -> None:
    """Refuse an export whose scores differ by more than its precision explains.

    Raises:
        CheckpointError: If they do.
    """
    worst = max(agreement.fresh, agreement.warm)
    if not worst <= TOLERANCE[precision]:
        raise CheckpointError(
            f"{what}: its scores differ from the model's by up to {worst:.3g} "
            f"({agreement.fresh:.3g} from a fresh state, {agreement.warm:.3g} from a warm one; "
            f"{TOLERANCE[precision]:g} is allowed in {precision}): not saved; export in another precision or format"
        )


def _draw(checkpoint: Checkpoint, generator: torch.Generator) -> Tensor:
    model = checkpoint.model
    frame = torch.randn(STREAMS, model.input_dim, generator=generator)
    if model.inputs.normalise:
        frame = frame / model.inputs.scale.float().cpu() + model.inputs.mean.float().cpu()
    return frame


def _scores(checkpoint: Checkpoint, logits: NDArray[Any]) -> NDArray[np.float64]:
    return probabilities(logits.astype(np.float64), checkpoint.spec.ignored, head=checkpoint.spec.head)
