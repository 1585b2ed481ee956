"""``coadtr cost``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from coadtr.checkpoint import Checkpoint, load
from coadtr.cli.cost_tables import block_table, cost_table, published_table
from coadtr.cli.from_frame import FromFrame
from coadtr.cli.naming import named_in_full
from coadtr.cli.settings import a_path, counts, group, plain, text, whether, whole
from coadtr.errors import ConfigError
from coadtr.evaluation import (
    describe_machine,
    macs_by_block,
    parameters,
    peak_memory_bytes,
    published_macs_by_block,
    state_bytes,
    step_latency,
    throughput,
    weights_bytes,
    write_report,
)
from coadtr.models import OnlineModel, build_model, config_from_dict

__all__ = ["CostSettings", "main", "model_cost"]


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """What to measure and how, each value checked before anything is built.

    Attributes:
        latency: Time single steps.
        streams: Numbers of streams whose throughput is measured.
        from_frame: The way from a raw frame, if a backbone is named.
        warmup: Steps before the clock runs.
        steps: Steps, or ways from a frame, that are timed.
        rounds: Rounds in which throughput is measured.
        device: Where to compute.
        threads: Threads of torch; None as torch chooses.
    """

    latency: bool
    streams: list[int]
    from_frame: FromFrame | None
    warmup: int
    steps: int
    rounds: int
    device: str
    threads: int | None

    @classmethod
    def read(cls, settings: dict[str, Any]) -> CostSettings:
        """Read the settings.

        Raises:
            ConfigError: If one cannot be used.
        """
        return cls(
            latency=whether(settings, "latency"),
            streams=counts(settings, "streams"),
            from_frame=FromFrame.read(settings),
            warmup=whole(settings, "warmup", least=0),
            steps=whole(settings, "steps", least=1),
            rounds=whole(settings, "rounds", least=1),
            device=text(settings, "device") or "cpu",
            threads=None if settings["threads"] is None else whole(settings, "threads", least=1),
        )


def main(cfg: DictConfig) -> None:
    """Print what a model costs, or the published table; write it as JSON if a file is named."""
    settings = plain(cfg)
    wanted, blocks = CostSettings.read(settings), whether(settings, "blocks")
    out = None if settings["out"] is None else a_path(settings, "out")
    console = Console()
    if whether(settings, "table"):
        if out is not None:
            raise ConfigError(f"out={out} is for one model: drop out, or table=true")
        console.print(published_table())
        return
    if out is not None and out.is_dir():
        raise ConfigError(f"out={out} is a folder: name a file in it, such as {out / 'cost.json'}")
    found = model_cost(settings, wanted)
    console.print(cost_table(found))
    if blocks:
        console.print(block_table(found))
    if out is not None:
        write_report(found, out)
        console.print(f"written to {out}", soft_wrap=True, highlight=False)


def model_cost(settings: dict[str, Any], wanted: CostSettings) -> dict[str, Any]:
    """Measure one model: a checkpoint's, or a fresh one of given settings; values ready for JSON."""
    backbone = None if wanted.from_frame is None else wanted.from_frame.load(wanted.device)
    checkpoint = None if settings["checkpoint"] is None else load(a_path(settings, "checkpoint"), wanted.device)
    # Read in any case, so that a setting that is no setting is told.
    groups = {name: group(settings, name) for name in ("model", "features")}
    if checkpoint is None:
        width = {} if backbone is None else {"input_dim": backbone[0].dim}
        with named_in_full(groups):
            fresh = build_model(config_from_dict({**groups["model"], **groups["features"], **width}))
        model = _on(fresh, wanted.device)
    else:
        model = checkpoint.model
        if backbone is not None:
            _check_fits(checkpoint, *backbone)
    timing: dict[str, Any] = {"warmup": wanted.warmup, "threads": wanted.threads}
    found = {
        "format": "coadtr-cost",
        "version": 1,
        "model": model.config.to_dict(),
        "checkpoint": None if checkpoint is None else str(checkpoint.path),
        **_arithmetic(model),
        "parameters": parameters(model),
        "weights_bytes": weights_bytes(model),
        "state_bytes_per_stream": state_bytes(model.init_state(1)),
        "step_latency_ms": asdict(step_latency(model, steps=wanted.steps, **timing)) if wanted.latency else None,
        "throughput": [
            asdict(one) for one in throughput(model, streams=wanted.streams, rounds=wanted.rounds, **timing)
        ],
        "from_frame": None,
    }
    if wanted.from_frame is not None and backbone is not None:
        network, sampling = backbone
        parts = wanted.from_frame.time(model, network, sampling, steps=wanted.steps, **timing)
        found["from_frame"] = {
            "frame": {"height_px": wanted.from_frame.height, "width_px": wanted.from_frame.width, "dtype": "uint8"},
            "decoding": "not included",
            "extractor": network.describe(sampling),
            "latency_ms": {name: asdict(part) for name, part in parts.items()},
        }
    machine = describe_machine()
    threads = machine["threads"] if wanted.threads is None else wanted.threads
    return found | {
        "peak_memory_bytes": peak_memory_bytes(wanted.device),
        "machine": {**machine, "threads": threads, "device": wanted.device},
    }


def _arithmetic(model: OnlineModel) -> dict[str, Any]:
    executed = macs_by_block(model)
    try:
        published, why = published_macs_by_block(model.config), None
    except ConfigError as error:
        published, why = None, str(error)
    return {
        "macs_per_frame": sum(executed.values()),
        "macs_by_block": executed,
        "macs_per_frame_published": None if published is None else sum(published.values()),
        "macs_by_block_published": published,
        "macs_unit": "multiply-accumulates",
        "not_published": why,
    }


def _check_fits(checkpoint: Checkpoint, network: Any, sampling: Any) -> None:
    """Refuse a backbone that does not make the features which a checkpoint was trained on."""
    rate = None if sampling.preset == "oadtr" else sampling.feature_rate_hz(0.0)
    checkpoint.check_features({"rgb": network.dim}, rate, extractors={"rgb": network.describe(sampling)})


def _on(model: OnlineModel, device: str) -> OnlineModel:
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch raises either, depending on how it was built
        cause = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used here ({cause}); use cpu") from error
