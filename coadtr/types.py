"""Shape vocabulary and the protocols that the parts of coadtr meet in.

Letters used in every docstring: B streams, T frames, D feature channels, E embedding, H heads,
N window (frames attended), C classes. A *frame* is one feature vector, a *clip* at most N frames, a *step* one
frame in and one answer out. Frame indices count from 0 at the start of each stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TASKS", "AnticipatingDetector", "ChunkDetector", "Detector", "StateT", "Task"]

StateT = TypeVar("StateT")

Task: TypeAlias = Literal["oad", "audio"]
TASKS: Final[tuple[Task, ...]] = ("oad", "audio")
"""What is answered: online action detection (a class a frame), or the class of a whole recording, at every frame."""


class Detector(Protocol[StateT]):
    """What a model offers so that it can be replayed, timed, trained and exported.

    A module holds parameters only. What a stream remembers is a value, the state, that goes in and comes out.
    The state is a (nested) NamedTuple of tensors whose first dimension is the stream (row).
    """

    @property
    def input_dim(self) -> int:
        """Feature channels D of one frame, all feature streams joined."""
        ...

    @property
    def num_classes(self) -> int:
        """Classes C, with background and ignored class if the data have them."""
        ...

    @property
    def window(self) -> int:
        """Frames N that one answer depends on (attention window; for other models their stated reach)."""
        ...

    def init_state(self, batch_size: int = 1) -> StateT:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        ...

    def step(self, frame: Tensor, state: StateT) -> tuple[Tensor, StateT]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out.

        May reuse the storage of ``state``: keep a copy with ``coadtr.layers.clone_state`` if it is needed again.
        """
        ...

    def reset_rows(self, state: StateT, rows: Tensor) -> StateT:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again, and leave the others as they are."""
        ...

    def forward(self, frames: Tensor) -> Tensor:
        """Answer whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out: what T steps from a fresh state answer."""
        ...


class ChunkDetector(Detector[StateT], Protocol[StateT]):
    """A detector that can answer many frames at once, where nobody waits for each answer."""

    def steps(self, frames: Tensor, state: StateT) -> tuple[Tensor, StateT]:
        """Answer k frames of each stream, ``(B, k, D)`` in, logits ``(B, k, C)`` out: what k steps answer."""
        ...


class AnticipatingDetector(Detector[StateT], Protocol[StateT]):
    """A detector that also says what it expects in the frames to come."""

    @property
    def frames_ahead(self) -> int:
        """How many frames ahead K it predicts; 0 if this one does not."""
        ...

    def step_ahead(self, frame: Tensor, state: StateT) -> tuple[Tensor, Tensor, StateT]:
        """Answer one frame as `step` does, and the K after it: ``(B, C)`` and ``(B, K, C)`` logits."""
        ...


AnyDetector = Detector[Any]
