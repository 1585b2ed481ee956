"""A model's step as a graph: the frame and the state go in, the logits and the next state come out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from coadtr.layers import state_from_tensors, state_names, state_tensors

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from coadtr.models import OnlineModel

__all__ = ["StepGraph", "trace"]

STREAMS = 2  # in the example that is traced: one stream would be taken for a constant


class StepGraph(nn.Module):
    """Step a model on a flat list of state tensors, none of which is written to.

    Args:
        model: The model, in eval mode.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "recurrence_dim": 6, "bank_dim": 4}
        >>> graph = StepGraph(build_model(preset("grab", input_dim=6, num_classes=3, **sizes)).eval())
        >>> graph.names
        ('memory', 'averages', 'frames')
        >>> logits, *state = graph(torch.zeros(2, 6), *graph.fresh(2))
        >>> logits.shape, state[2].tolist()
        (torch.Size([2, 3]), [1, 1])
    """

    def __init__(self, model: OnlineModel) -> None:
        super().__init__()
        self.model = model
        self._like = model.init_state(1)
        self.names = state_names(self._like)

    def fresh(self, streams: int) -> list[Tensor]:
        """Return the state tensors of so many streams that have seen no frame."""
        return list(state_tensors(self.model.init_state(streams)))

    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Answer a frame of each stream.

        Args:
            frame: ``(B, D)`` float32.
            state: The state's tensors, in the order of ``names``.

        Returns:
            Logits ``(B, C)`` float32, and the tensors of the next state.
        """
        before = state_from_tensors([leaf.clone() for leaf in state], self._like)
        logits, after = self.model.step(frame.to(self.model.input_dtype), before)
        return (logits.to(torch.float32), *state_tensors(after))


def trace(graph: StepGraph) -> ExportedProgram:
    """Trace a step with any number of streams."""
    parameter = next(graph.model.parameters())
    frame = torch.zeros(STREAMS, graph.model.input_dim, device=parameter.device)
    state = graph.fresh(STREAMS)
    streams = torch.export.Dim("streams")
    with torch.no_grad():
        return torch.export.export(
            graph, (frame, *state), dynamic_shapes=({0: streams}, tuple({0: streams} for _ in state))
        )
