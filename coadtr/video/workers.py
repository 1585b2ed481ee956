"""From one video to its features: the work of a process, which needs nothing but the arguments it is given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from coadtr.data.storage.checking import DTYPES
from coadtr.data.storage.schema import check_name, listing
from coadtr.errors import ConfigError, DataError
from coadtr.video.address import shown
from coadtr.video.backbones import OFFLINE, Backbone, load_backbone
from coadtr.video.decode import VideoReader
from coadtr.video.flow import FlowBackbone, load_flow
from coadtr.video.sampling import Sampling, chunks, even_rate
from coadtr.video.sources import refuse_endless

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coadtr.video.sampling import Shown
    from coadtr.video.sources import Source

__all__ = ["Extraction", "LazyPictures", "Networks", "VideoFeatures", "extract_video"]

Networks: TypeAlias = dict[str, Backbone | FlowBackbone]
"""The network that makes each stream, by its name."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """How features are made: what decides their values, to the last bit on one kind of machine.

    Attributes:
        backbone: Network of the stream ``rgb``, see `load_backbone`; none for no such stream.
        weights: Name of its weights.
        clip: Frames that it takes, if it takes clips.
        flow: Network of the stream ``flow``, see `load_flow`; none for no such stream.
        flow_weights: Name of its weights.
        flow_backbone: Backbone for pictures of flow; none to pool flow in a grid.
        flow_backbone_weights: Name of its weights.
        sampling: Which frames make one feature.
        batch_size: Chunks that go through a network at once.
        dtype: Type of the features, ``'float16'`` or ``'float32'``.
        device: Where to compute, such as ``'cpu'`` or ``'cuda'``.
        threads: Threads of torch in each process. Sums are rounded otherwise with another number, so it is not
            left to the machine.
        max_seconds: Read so much of each video; none for all of it.

    Raises:
        ConfigError: If a value is unknown or out of range.

    Example:
        >>> Extraction().streams
        ('rgb',)
    """

    backbone: str | None = OFFLINE
    weights: str | None = None
    clip: int | None = None
    flow: str | None = None
    flow_weights: str | None = None
    flow_backbone: str | None = OFFLINE
    flow_backbone_weights: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    batch_size: int = 32
    dtype: str = "float16"
    device: str = "cpu"
    threads: int = 1
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.streams:
            raise ConfigError("neither backbone nor flow is given: name one, such as backbone=efficientnet_lite0")
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype={self.dtype!r}: use one of {listing(DTYPES)}")
        for name, value in (("batch_size", self.batch_size), ("threads", self.threads), ("clip", self.clip)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value!r}: give 1 or more")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ConfigError(f"max_seconds={self.max_seconds!r}: give a positive number, or null for whole videos")

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the feature streams."""
        return tuple(name for name, made in (("rgb", self.backbone), ("flow", self.flow)) if made is not None)

    def load(self) -> Networks:
        """Load the networks.

        Raises:
            ConfigError: If one does not exist or does not fit.
            DataError: If weights cannot be had.
            MissingExtraError: If a package is missing.
        """
        networks: Networks = {}
        if self.backbone is not None:
            networks["rgb"] = load_backbone(
                self.backbone, self.weights, clip=self.clip, chunk=self.sampling.size, device=self.device
            )
        if self.flow is not None:
            image = None
            if self.flow_backbone is not None:
                image = load_backbone(self.flow_backbone, self.flow_backbone_weights, device=self.device)
            networks["flow"] = load_flow(self.flow, self.flow_weights, image=image, device=self.device)
        return networks


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """What came of one video.

    Attributes:
        name: Name of the video.
        features: ``(T, D)`` by stream; empty if there is a problem.
        rate_hz: Features a second.
        frames: Video frames that were decoded.
        warnings: What a user should know, though features were made.
        problem: Why there are no features, or none.
    """

    name: str
    features: dict[str, NDArray[Any]] = field(default_factory=dict)
    rate_hz: float = 0.0
    frames: int = 0
    warnings: tuple[str, ...] = ()
    problem: str | None = None


def extract_video(
    source: Source,
    extraction: Extraction,
    *,
    networks: Networks | None = None,
    tell: Callable[[int], None] | None = None,
) -> VideoFeatures:
    """Make the features of one video. Chunks are batched within the video, so they do not depend on other videos.

    Args:
        source: The video.
        extraction: How features are made.
        networks: The networks, if they are loaded; none to load them, once in a process.
        tell: Called now and then with the number of video frames decoded since the last call.

    Returns:
        The features; or the problem, if the video cannot be read to its end, or a network fails on it.

    Raises:
        ConfigError: If the networks do not fit, or a live address is to be read without end.
        DataError: If weights cannot be had, or the device fails for good.

    Example:
        >>> from coadtr.video.sources import Source
        >>> extract_video(Source("a", "a.mp4"), Extraction()).problem
        'cannot be opened (No such file or directory): give a video file'
    """
    check_name(source.name, what="video")
    refuse_endless([source], extraction.max_seconds)
    networks = _networks(extraction) if networks is None else networks
    with _computing(extraction):
        try:
            with VideoReader(source.location, max_seconds=extraction.max_seconds) as reader:
                return _read(reader, source.name, extraction, networks, tell)
        except DataError as error:
            text = str(error).removeprefix(f"{shown(source.location)}: ")
        except (RuntimeError, MemoryError) as error:  # torch tells a lack of memory by the former
            cause = " ".join(str(error).split())[:200] or type(error).__name__
            if cause.startswith("CUDA error"):  # nothing runs on that device any more: no fault of this video
                raise DataError(f"device {extraction.device} failed ({cause}): run the same command again") from error
            text = f"the networks fail on it ({cause}): look at the video, or use a smaller batch_size"
        return VideoFeatures(name=source.name, problem=text)


@functools.lru_cache(maxsize=1)
def _networks(extraction: Extraction) -> Networks:
    return extraction.load()


@contextmanager
def _computing(extraction: Extraction) -> Iterator[None]:
    """Compute so that the same video gives the same bits."""
    threads = torch.get_num_threads()
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.set_num_threads(extraction.threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def _read(
    reader: VideoReader,
    name: str,
    extraction: Extraction,
    networks: Networks,
    tell: Callable[[int], None] | None,
) -> VideoFeatures:
    sampling = extraction.sampling
    done: dict[str, list[NDArray[Any]]] = {stream: [] for stream in networks}
    waiting: dict[str, list[Tensor]] = {stream: [] for stream in networks}
    starts: list[float] = []
    told = 0

    def flush() -> None:
        for stream, network in networks.items():
            if waiting[stream]:
                features = network.compute(torch.stack(waiting[stream])).numpy()
                done[stream].append(_narrow(features, extraction.dtype))
                waiting[stream].clear()

    context = max(network.context for network in networks.values())
    for chunk in chunks(reader, sampling, context=context):
        starts.append(chunk[-sampling.size].time)
        tensors = LazyPictures(chunk)
        for stream, network in networks.items():
            waiting[stream].append(network.prepare(tensors, sampling))
        if len(waiting[next(iter(networks))]) == extraction.batch_size:
            flush()
            if tell is not None:
                tell(reader.frames - told)
                told = reader.frames
    flush()
    if tell is not None:
        tell(reader.frames - told)
    if not any(done.values()):
        raise DataError(f"has {reader.frames} frames, less than one chunk of {sampling.size}: leave it out")
    rate, warnings = even_rate(sampling, starts, declared=reader.rate_hz, counted=reader.measured_rate())
    if reader.damaged:
        warnings.append(f"{reader.damaged} damaged packets or frames were passed over: look at the video")
    return VideoFeatures(
        name=name,
        features={stream: np.concatenate(parts) for stream, parts in done.items()},
        rate_hz=rate,
        frames=reader.frames,
        warnings=tuple(warnings),
    )


class LazyPictures(Sequence[Tensor]):
    """Frames as tensors, each made when it is asked for: of most chunks, one frame is."""

    def __init__(self, frames: Sequence[Shown]) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return torch.from_numpy(self._frames[index].rgb).permute(2, 0, 1)


def _narrow(features: NDArray[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        narrow = features.astype(dtype)
    if not np.isfinite(narrow).all():
        largest = float(np.abs(features).max())
        remedy = "say dtype=float32" if np.isfinite(largest) else "use another backbone"
        raise DataError(f"the features reach {largest:g}, which {dtype} does not hold: {remedy}")
    return narrow
