"""Many streams on one module: a batch of fixed capacity whose rows join, leave, reset and keep silent on their own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers.runner import StepRunner
from coadtr.layers.state import clone_state, state_from_tensors, state_tensors
from coadtr.types import StateT

__all__ = ["SteppedModule", "StreamBatch"]

S = TypeVar("S")

# From so many answering streams to a silent one among them, it is cheaper to step the silent ones too and to put their
# state back than to copy the answering ones out and in again (break-even measured at 2 to 4, by width and depth).
ANSWERING_PER_SILENT = 3


class SteppedModule(Protocol[StateT]):
    """What a :class:`StreamBatch` asks of a module; every model offers it, and every layer that takes one stream."""

    def init_state(self, batch_size: int = 1) -> StateT:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        ...

    def step(self, frame: Tensor, state: StateT) -> tuple[Tensor, StateT]:
        """Take in one frame of each stream, ``(B, D)``, and answer for it, ``(B, ...)``."""
        ...


def _rows(state: S, rows: Tensor | slice) -> S:
    """Take rows of a state: views for a slice, copies for indices."""
    tensors = state_tensors(state)
    if isinstance(rows, slice):
        return state_from_tensors((leaf[rows] for leaf in tensors), state)
    return state_from_tensors((leaf.index_select(0, rows) for leaf in tensors), state)


class StreamBatch(Generic[StateT]):
    """Up to ``capacity`` streams on one module, each in a slot of one batched state.

    ::

        join -> slot      step: rows of the frames that came in -> one batched module.step -> their answers
        leave, reset      the slot's row of the state is made fresh; no other row is touched

    A stream's answers are those of the same stream alone on the module, up to the rounding of other batch sizes. A step
    need not bring a frame of every stream: streams without one keep their state, bit for bit, and their next frame
    follows their last one. How that is done depends on who brings one, and never on what the module remembers:

    - neighbouring slots, all of them or a run: the step works on that part of the state in place, and copies nothing;
    - few silent streams among many: all are stepped, and the rows of the silent ones are put back from a copy;
    - otherwise the rows that have a frame are copied into a batch of their own, and back.

    New streams take the lowest free slot, so that streams in use lie side by side. Steps run in inference mode.

    Not thread-safe: callers on several threads need a lock around each call.

    Args:
        module: A layer or model with ``init_state`` and ``step``, in evaluation mode. Its dtype and device stay as they
            are while the batch is in use.
        capacity: Slots, the largest number of streams at a time. Memory is taken for all of them at once.
        step: Runs in place of ``module.step``, always on all ``capacity`` rows, so that its shapes are static; for
            instance a compiled step. A :class:`StepRunner` as the module does that by itself.

    Raises:
        ConfigError: If ``capacity`` is below one.

    Example:
        >>> import torch
        >>> from coadtr.layers import SingleOutputAttention
        >>> batch = StreamBatch(SingleOutputAttention(8, 2, window=4), capacity=16)
        >>> batch.join("door"), batch.join("yard")
        ('door', 'yard')
        >>> answers = batch.step({"door": torch.randn(8), "yard": torch.randn(8)})
        >>> answers = batch.step({"yard": torch.randn(8)})
        >>> list(answers), answers["yard"].shape
        (['yard'], torch.Size([8]))
        >>> batch.leave("door")
        >>> batch.streams, len(batch), batch.capacity
        (('yard',), 1, 16)
    """

    def __init__(
        self,
        module: SteppedModule[StateT],
        capacity: int,
        *,
        step: Callable[[Tensor, StateT], tuple[Tensor, StateT]] | None = None,
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"a batch of streams needs a capacity of at least 1, got {capacity}")
        self.capacity = capacity
        self._module = module
        self._step = module.step if step is None else step
        # What is compiled or captured for each batch size would be so in the middle of a stream.
        self._all_rows = step is not None or (isinstance(module, StepRunner) and module.backend != "eager")
        self._slots: dict[Hashable, int] = {}
        with torch.inference_mode():
            self._state = module.init_state(capacity)
        self._device = next(state_tensors(self._state)).device

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._slots

    @property
    def streams(self) -> tuple[Any, ...]:
        """Keys of the streams that joined and did not leave, in the order in which they joined."""
        return tuple(self._slots)

    def slot(self, key: Hashable) -> int:
        """Return the row of a stream, which it keeps until it leaves.

        Raises:
            ConfigError: If there is no such stream.
        """
        if key not in self._slots:
            raise ConfigError(f"no stream {key!r} in this batch of {len(self)}; join it first")
        return self._slots[key]

    def join(self, key: Hashable | None = None) -> Any:
        """Begin a stream, in the lowest free slot.

        Args:
            key: Name of the stream, anything hashable but None; a free number if not given.

        Returns:
            The key.

        Raises:
            ConfigError: If the stream is there already, or if all slots are taken.
        """
        if key in self._slots:
            raise ConfigError(f"stream {key!r} has joined already; reset it to begin anew, or take another key")
        if len(self._slots) == self.capacity:
            raise ConfigError(
                f"all {self.capacity} slots are taken, none is left for {'a stream' if key is None else repr(key)}; "
                "let a stream leave, or make the batch with a larger capacity"
            )
        if key is None:
            key = next(number for number in range(self.capacity) if number not in self._slots)
        taken = set(self._slots.values())
        self._slots[key] = next(slot for slot in range(self.capacity) if slot not in taken)
        self.reset(key)
        return key

    def leave(self, key: Hashable) -> None:
        """End a stream and free its slot.

        Raises:
            ConfigError: If there is no such stream.
        """
        self.slot(key)
        del self._slots[key]

    def reset(self, key: Hashable) -> None:
        """Make a stream fresh again: its next frame is its first.

        Raises:
            ConfigError: If there is no such stream.
        """
        with torch.inference_mode():
            self._put(self.slot(key), self._module.init_state(1))

    def snapshot(self, key: Hashable) -> StateT:
        """Copy the state of one stream, as ``module.step`` takes it for a batch of one (and writes into it).

        Raises:
            ConfigError: If there is no such stream.
        """
        slot = self.slot(key)
        with torch.inference_mode(mode=False), torch.no_grad():  # whoever holds it may step it in any mode
            return clone_state(_rows(self._state, slice(slot, slot + 1)))

    def restore(self, key: Hashable, state: StateT) -> None:
        """Set the state of a stream, which goes on from there.

        Args:
            key: A stream that has joined.
            state: State of one stream, from :meth:`snapshot` of any batch of this module, or from ``module.step``. It
                is copied.

        Raises:
            ConfigError: If there is no such stream.
            ShapeError: If the state is not that of one stream of this module.
        """
        slot = self.slot(key)
        given = [(tuple(leaf.shape), leaf.dtype) for leaf in state_tensors(state)]
        wanted = [((1, *leaf.shape[1:]), leaf.dtype) for leaf in state_tensors(self._state)]
        if given != wanted:
            raise ShapeError(f"stream {key!r} takes the state of one stream of its module, {wanted}; got {given}")
        with torch.inference_mode():
            self._put(slot, state)

    def step(self, frames: Mapping[Any, Tensor]) -> dict[Any, Tensor]:
        """Take in one frame of some of the streams, and answer for each.

        Args:
            frames: ``(D,)`` by stream. Streams that are left out keep their state.

        Returns:
            Answers ``(...)`` by stream: rows of one tensor.

        Raises:
            ConfigError: If there is no such stream; no state is changed.
            ShapeError: If a frame has another width; no state is changed.
        """
        if not frames:
            return {}
        slots = {key: self.slot(key) for key in frames}
        keys = sorted(slots, key=slots.__getitem__)
        width = frames[keys[0]].shape
        for key in keys:
            if frames[key].dim() != 1 or frames[key].shape != width:
                raise ShapeError(
                    f"stream {key!r}: a frame is (D,), without a dimension of streams and as wide as the others; "
                    f"got {tuple(frames[key].shape)}, and {tuple(width)} for stream {keys[0]!r}"
                )
        answers = self._answer(torch.stack([frames[key] for key in keys]), [slots[key] for key in keys])
        return dict(zip(keys, answers.unbind(0), strict=True))

    def step_rows(self, frames: Tensor, active: Tensor | None = None) -> Tensor:
        """Take in one frame of some of the streams, in one tensor with a row for each slot.

        Args:
            frames: ``(capacity, D)``; :meth:`slot` tells which row is whose. Rows of slots that are not active are not
                looked at.
            active: ``(capacity,) bool``, true where the frame is to be taken in; all streams that have joined if not
                given. It is read on the host: keep it on the CPU.

        Returns:
            ``(capacity, ...)`` answers; NaN in rows that are not active.

        Raises:
            ConfigError: If an active slot has no stream; no state is changed.
            ShapeError: If ``frames`` or ``active`` has another shape or type; no state is changed.
        """
        if frames.dim() != 2 or len(frames) != self.capacity:
            raise ShapeError(
                f"step_rows takes a frame per slot, ({self.capacity}, D); got {tuple(frames.shape)}. "
                "Use step for frames by stream"
            )
        slots = self._active(active)
        if len(slots) == self.capacity:
            return self._answer(frames, slots)
        rows = torch.tensor(slots, dtype=torch.int64, device=self._device)
        answers = self._answer(frames.index_select(0, rows), slots)
        return answers.new_full((self.capacity, *answers.shape[1:]), torch.nan).index_copy_(0, rows, answers)

    def _active(self, active: Tensor | None) -> list[int]:
        """Return the slots to step, in order."""
        joined = sorted(self._slots.values())
        if active is None:
            return joined
        if active.dtype != torch.bool or active.shape != (self.capacity,):
            raise ShapeError(
                f"active must be a bool tensor of shape ({self.capacity},), one entry per slot; "
                f"got {active.dtype} of shape {tuple(active.shape)}"
            )
        slots = [slot for slot, is_active in enumerate(active.tolist()) if is_active]
        if strangers := set(slots).difference(joined):
            raise ConfigError(f"slot {min(strangers)} is active and has no stream; the slots in use are {joined}")
        return slots

    def _answer(self, frames: Tensor, slots: Sequence[int]) -> Tensor:
        """Step the streams in the given slots, in order: frames ``(k, D)`` to answers ``(k, ...)``."""
        first, end = (slots[0], slots[-1] + 1) if slots else (0, 1)  # nobody: an idle row tells the answers' shape
        if self._all_rows:
            first, end = 0, self.capacity
        silent = sorted(set(range(first, end)).difference(slots))
        with torch.inference_mode():
            if not silent:
                return self._step_run(frames, first, end)
            if self._all_rows or len(silent) * ANSWERING_PER_SILENT <= len(slots) or not slots:
                return self._step_around(frames, slots, silent, first, end)
            return self._step_apart(frames, slots)

    def _step_run(self, frames: Tensor, first: int, end: int) -> Tensor:
        """Step a run of slots where they lie."""
        if end - first == self.capacity:
            answers, self._state = self._step(frames, self._state)
            return answers
        part = _rows(self._state, slice(first, end))
        answers, after = self._step(frames, part)
        for old, new in zip(state_tensors(part), state_tensors(after), strict=True):
            if new is not old:
                old.copy_(new)
        return answers

    def _step_around(self, frames: Tensor, slots: Sequence[int], silent: Sequence[int], first: int, end: int) -> Tensor:
        """Step a run of slots with silent ones among them, and put the silent ones back."""
        idle = torch.tensor(silent, device=self._device)
        kept = _rows(self._state, idle)
        rows = torch.tensor(slots, dtype=torch.int64, device=self._device) - first
        spread = frames.new_zeros(end - first, frames.shape[1]).index_copy_(0, rows, frames)
        answers = self._step_run(spread, first, end)
        for leaf, old in zip(state_tensors(self._state), state_tensors(kept), strict=True):
            leaf.index_copy_(0, idle, old)
        return answers.index_select(0, rows)

    def _step_apart(self, frames: Tensor, slots: Sequence[int]) -> Tensor:
        """Step some slots in a batch of their own."""
        rows = torch.tensor(slots, device=self._device)
        answers, after = self._step(frames, _rows(self._state, rows))
        for leaf, new in zip(state_tensors(self._state), state_tensors(after), strict=True):
            leaf.index_copy_(0, rows, new)
        return answers

    def _put(self, slot: int, state: StateT) -> None:
        for leaf, row in zip(state_tensors(self._state), state_tensors(state), strict=True):
            leaf[slot : slot + 1].copy_(row)
