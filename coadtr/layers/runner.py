"""Run a step without the cost of calling it: compiled ahead of time on a CPU, as one CUDA graph on a GPU."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError, MissingExtraError, ShapeError
from coadtr.layers.precision import Int8Linear
from coadtr.layers.state import state_from_tensors, state_tensors

__all__ = ["Backend", "StepRunner"]

Backend = Literal["auto", "eager", "compiled", "cuda_graph"]

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]

# Shape and dtype of each tensor: of a frame first, then of its state.
Signature = list[tuple[torch.Size, torch.dtype]]


class StepRunner(nn.Module):
    """Run the step of a layer or model with as little overhead as the machine allows, and the same results.

    ::

        eager        module.step itself
        compiled     the step exported and compiled ahead of time (AOTInductor; needs a C++ compiler), on a CPU
        cuda_graph   the step captured once and replayed, on a GPU
        auto         cuda_graph on a GPU, eager elsewhere

    Each batch size is compiled or captured at its first step; compiling takes from ten seconds to some minutes. Weights
    are taken then: a compiled step does not see them change. What is not the step is asked of the module, so that a
    runner stands wherever a detector does: ``init_state``, ``reset_rows``, ``window``, ``forward``.

    Args:
        module: A layer or model with ``init_state`` and ``step``; put into evaluation mode, without gradients.
        backend: How to run.

    Raises:
        ConfigError: If the backend is unknown, or does not fit the device of the module.

    Example:
        >>> import torch
        >>> from coadtr.layers import SingleOutputAttention
        >>> runner = StepRunner(SingleOutputAttention(8, 2, window=4))
        >>> answer, state = runner.step(torch.randn(1, 8), runner.init_state(1))
        >>> answer.shape
        torch.Size([1, 8])
    """

    def __init__(self, module: nn.Module, *, backend: Backend = "auto") -> None:
        super().__init__()
        if backend not in get_args(Backend):
            raise ConfigError(f"backend must be one of {', '.join(get_args(Backend))}; got {backend!r}")
        self.module = module.eval().requires_grad_(False)
        self._wanted = backend
        self._steps: dict[int, tuple[Step, Signature]] = {}
        if self.backend != "eager" and (self.backend == "cuda_graph") != (self._device().type == "cuda"):
            raise ConfigError(
                f"backend={backend} does not run on {self._device()}; take auto or eager, or move the module first"
            )

    @property
    def backend(self) -> Backend:
        """How steps run: what was asked for, ``auto`` resolved by where the module lies."""
        if self._wanted != "auto":
            return self._wanted
        return "cuda_graph" if self._device().type == "cuda" else "eager"

    def _device(self) -> torch.device:
        module = self.module
        return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))

    def _apply(self, fn: Any, recurse: bool = True) -> StepRunner:
        """Convert or move the module, and forget what was prepared for it as it was."""
        self._steps.clear()
        return cast("StepRunner", nn.Module._apply(self, fn, recurse))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was compiled or captured: a copy does that anew."""
        return {**self.__dict__, "_steps": {}}

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take in one frame of each stream and answer for it, as ``module.step`` does; the state's storage is reused.

        Raises:
            ShapeError: If the shapes or dtypes of frame and state are not those that this batch size was prepared for.
            MissingExtraError: If a step is to be compiled and no C++ compiler is found.
        """
        module: Any = self.module
        if self.backend == "eager":
            with torch.inference_mode():
                answered: tuple[Tensor, Any] = module.step(frame, state)
                return answered
        batch = frame.shape[0]
        if batch not in self._steps:
            self._steps[batch] = self._prepare(frame)
        step, wanted = self._steps[batch]
        # What runs without Python looks at nothing: it would read past the end of a smaller tensor.
        given = _signature(frame, state)
        if given != wanted:
            said = [", ".join(f"{tuple(shape)} {dtype}" for shape, dtype in tensors) for tensors in (wanted, given)]
            raise ShapeError(
                f"this step was prepared for frame and state {said[0]}; got {said[1]}. Pass frames like the first one, "
                "and states of init_state or of this runner's steps"
            )
        with torch.inference_mode():
            return step(frame.contiguous(), state)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights, and forget what was prepared with the old ones."""
        self._steps.clear()
        return super().load_state_dict(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Answer as the module's ``forward`` does, without any of this."""
        return self.module(*args, **kwargs)

    def _prepare(self, frame: Tensor) -> tuple[Step, Signature]:
        frame = frame.detach().clone(memory_format=torch.contiguous_format)
        module: Any = self.module
        wanted = _signature(frame, module.init_state(frame.shape[0]))
        step = _compile(module, frame) if self.backend == "compiled" else StaticStep(module, frame, _capture)
        return step, wanted


def _signature(frame: Tensor, state: Any) -> Signature:
    return [(tensor.shape, tensor.dtype) for tensor in (frame, *state_tensors(state))]


class FlatStep(nn.Module):
    """``forward`` is the step over a flat list of tensors: what an exported program can store the signature of."""

    def __init__(self, module: nn.Module, like: Any) -> None:
        super().__init__()
        self.module: Any = module
        self.like = like

    def forward(self, frame: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        answer, state = self.module.step(frame, state_from_tensors(tensors, self.like))
        return answer, *state_tensors(state)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the compiler's notes (what it tuned, what it did not find) off standard error; failures are raised."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _compile(module: Any, frame: Tensor) -> Step:
    """Compile the step ahead of time, for frames like the one given."""
    # Short loops between the matrix products are not worth sharing between threads.
    settings: dict[str, Any] = {"cpp.min_chunk_size": 8192}
    if any(isinstance(part, Int8Linear) for part in module.modules()):
        settings |= {"max_autotune": True, "freezing": True}  # only a tuned kernel is faster than bfloat16's
    fresh = module.init_state(frame.shape[0])
    with torch.no_grad():
        program = torch.export.export(FlatStep(module, fresh), (frame.clone(), *state_tensors(fresh)))
    with tempfile.TemporaryDirectory(prefix="coadtr-") as folder:
        path = str(Path(folder) / "step.pt2")
        try:
            with _quietly():
                torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=settings)
        except torch._inductor.exc.InductorError as error:
            if "compiler" not in str(error).lower():
                raise
            raise MissingExtraError(
                "compiling a step needs a C++ compiler, and torch found none: install g++ (or name one in CXX), "
                "or take backend=eager"
            ) from error
        loader: Any = torch._inductor.aoti_load_package(path).loader
    # Past the loader's own wrapper, which takes its arguments apart and puts them together again at every call.
    run: Callable[[list[Tensor]], list[Tensor]] = getattr(loader, "boxed_run", loader.run)

    def step(frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        # Strides are compiled in as well. A state that a step or init_state made is contiguous: this copies nothing.
        answer, *after = run([frame, *(tensor.contiguous() for tensor in state_tensors(state))])
        return answer, state_from_tensors(after, state)

    return step


def _capture(advance: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture a function of static tensors in a CUDA graph; return what replays it."""
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries set themselves up in their first calls, which must not be captured
                advance()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            advance()
    return graph.replay


class StaticStep:
    """A step over tensors that never move: what a CUDA graph can replay.

    The stream that stepped last lives in the static tensors, and its next step copies nothing but the frame. When
    another stream's state comes, the last one's tensors are first given storage of their own.

    Args:
        module: A layer or model.
        frame: A frame like those to come.
        capture: Makes a function out of one that advances the static tensors by a step.
    """

    def __init__(
        self, module: Any, frame: Tensor, capture: Callable[[Callable[[], None], torch.device], Callable[[], None]]
    ) -> None:
        self.frame = frame.clone()
        self.state = module.init_state(frame.shape[0])
        self.tensors = list(state_tensors(self.state))
        self.handed_out: Any = None
        self.answer: Tensor

        def advance() -> None:
            self.answer, after = module.step(self.frame, self.state)
            self._load(after)

        with torch.inference_mode():
            self.replay = capture(advance, frame.device)

    def _load(self, state: Any) -> None:
        for own, other in zip(self.tensors, state_tensors(state), strict=True):
            if own.data_ptr() != other.data_ptr():
                own.copy_(other)

    def __call__(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Step a stream; see :meth:`StepRunner.step`."""
        if state is not self.handed_out:
            if self.handed_out is not None:
                for tensor in state_tensors(self.handed_out):
                    tensor.set_(tensor.clone().untyped_storage(), 0, tensor.shape, tensor.stride())
            self._load(state)
            self.handed_out = state_from_tensors([tensor.detach() for tensor in self.tensors], state)
        self.frame.copy_(frame)
        self.replay()
        return self.answer.clone(), self.handed_out
