"""A model's step as a graph: the frame and the state go in, the logits and the next state come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from coadtr.layers import state_from_tensors, state_tensors

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from coadtr.models import OnlineModel

__all__ = ["StepGraph", "leaf_names", "trace"]

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
        self.names = leaf_names(self._like)

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


def leaf_names(state: Any) -> tuple[str, ...]:
    """Name the tensors of a state by their way through it, in the order of `state_tensors`.

    Example:
        >>> from coadtr.layers import SingleOutputAttention
        >>> leaf_names((SingleOutputAttention(4, 1, window=2).init_state(1),))
        ('0.keys', '0.values', '0.frames')
    """

    def walk(part: Any, way: tuple[str, ...]) -> list[str]:
        if isinstance(part, Tensor):
            return [".".join(way)]
        fields = getattr(part, "_fields", range(len(part)))
        return [name for field, inner in zip(fields, part, strict=True) for name in walk(inner, (*way, str(field)))]

    return tuple(walk(state, ()))


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
