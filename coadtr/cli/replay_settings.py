"""The settings of ``coadtr replay``, read and checked before hours are spent on a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias, get_args

from coadtr.cli.naming import named_in_full
from coadtr.cli.settings import counts, fill, group, of_kind, one_of, text, whether, whole
from coadtr.errors import ConfigError
from coadtr.evaluation import CausalSmoothing, ClipSettings, DetailSettings, find_protocol
from coadtr.layers import Backend, Precision

__all__ = ["ReplaySettings"]

Mode: TypeAlias = Literal["auto", "step", "chunk"]

CHUNK = 512  # frames at a time: enough for products of good size, few enough to bound the memory


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """What to replay and how, each value checked before hours are spent on a replay.

    Attributes:
        split: Split of the store; None for all videos.
        overwrite: Whether a report of other frames or scores may be replaced.
        protocol: Name of the scoring protocol.
        mode: Frame by frame, in chunks, or as the rest suggests.
        batch_size: Videos side by side; None for 16 in single steps, and 1 in chunks, which are large enough.
        precision: Precision of weights, activations and state; None as the checkpoint has them.
        backend: How the step runs, see `coadtr.layers.StepRunner`.
        smoothing: What is done to the scores of each video; None for nothing.
        anticipation: Whether to score what the model expects in the frames to come.
        audit: Whether to audit the detector for causality first.
        details: How the further figures are made.
        clips: How whole recordings are scored, by a checkpoint of the task ``audio``.
        timed: Whether latency is measured; if not, the report holds nothing that differs from run to run.
        warmup: Steps before the clock runs.
        steps: Steps that are timed; 0 where none is.
        streams: Numbers of streams whose throughput is measured.
    """

    split: str | None = "test"
    overwrite: bool = False
    protocol: str = "all"
    mode: Mode = "auto"
    batch_size: int | None = None
    precision: Precision | None = None
    backend: Backend = "eager"
    smoothing: CausalSmoothing | None = None
    anticipation: bool = False
    audit: bool = False
    details: DetailSettings = field(default_factory=DetailSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)
    timed: bool = True
    warmup: int = 200
    steps: int = 1000
    streams: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.mode == "chunk" and self.backend != "eager":
            raise ConfigError(f"mode=chunk cannot run with backend={self.backend}: use backend=eager or mode=step")
        if self.anticipation and self.mode == "chunk":
            raise ConfigError("what is ahead is answered step by step: use mode=step with anticipation=true")
        if self.anticipation and self.backend != "eager":
            raise ConfigError(f"backend={self.backend} answers the current frame alone: use backend=eager")

    @property
    def chunk(self) -> int:
        """Frames at a time: chunks where no latency is asked for, and nothing else asks for single steps."""
        if self.mode != "auto":
            return CHUNK if self.mode == "chunk" else 1
        # In few bytes the order of the sums shows in the scores: those of single steps are the stream's.
        stepping = self.timed or self.anticipation or self.backend != "eager" or self.precision in ("bfloat16", "int8")
        return 1 if stepping else CHUNK

    @property
    def rows(self) -> int:
        """Videos side by side."""
        return self.batch_size or (16 if self.chunk == 1 else 1)

    @classmethod
    def read(cls, settings: dict[str, Any]) -> Self:
        """Read the settings.

        Raises:
            ConfigError: If one cannot be used.
        """
        timed = settings["latency"] not in (None, False)
        latency = {f"latency.{name}": value for name, value in group(settings, "latency").items()} if timed else {}
        smoothing = group(settings, "smoothing")
        with named_in_full({"smoothing": smoothing}):
            smoothed = CausalSmoothing.parse(smoothing)
        return cls(
            split=text(settings, "split"),
            overwrite=whether(settings, "overwrite"),
            protocol=find_protocol(of_kind(str, settings["protocol"], "protocol")).name,
            mode=one_of(get_args(Mode), settings["mode"], "mode"),
            batch_size=None if settings["batch_size"] is None else whole(settings, "batch_size", least=1),
            precision=one_of((None, *get_args(Precision)), settings["precision"], "precision"),
            backend=one_of(get_args(Backend), settings["backend"], "backend"),
            smoothing=smoothed,
            anticipation=whether(settings, "anticipation"),
            audit=whether(settings, "audit"),
            details=fill(DetailSettings, settings, "details"),
            clips=fill(ClipSettings, settings, "clips"),
            timed=timed,
            warmup=whole(latency, "latency.warmup", least=0) if timed else 0,
            steps=whole(latency, "latency.steps", least=1) if timed else 0,
            streams=tuple(counts(latency, "latency.streams")) if timed else (),
        )
