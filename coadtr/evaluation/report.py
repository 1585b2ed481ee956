"""The report of an evaluation: one JSON file of what was scored, what it cost, and where it came from."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import coadtr
from coadtr.data.atomic import replacing
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coadtr.evaluation.cost import Cost

__all__ = [
    "REPORT_FORMAT",
    "REPORT_VERSION",
    "build_origin",
    "build_report",
    "describe_machine",
    "write_report",
]

REPORT_FORMAT = "coadtr-report"
REPORT_VERSION = 2
MACS_UNIT = "multiply-accumulates"

# Keys that are null where they were not asked for, or cannot be had.
_DETAILS = (
    *("intervals", "portions", "segmental", "starts", "delay", "calibration", "warmup", "anticipation"),
    *("clips", "smoothing", "mode", "audit"),
)
_MEASURED = (
    *("parameters", "weights_bytes", "state_bytes_per_stream", "peak_memory_bytes", "step_latency_ms", "throughput"),
)


def build_report(
    accuracy: Mapping[str, Any],
    *,
    cost: Cost | None = None,
    macs_per_frame_published: float | None = None,
    step: Mapping[str, str] | None = None,
    origin: Mapping[str, Any],
    machine: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put accuracy, cost, machine and origin together.

    Args:
        accuracy: What `evaluate_scores` returned, and what there is of `evaluate_details`.
        cost: What `measure_cost` returned; its fields are None in the report if it was not measured.
        macs_per_frame_published: Multiply-accumulates by the published counting convention, if known.
        step: How the step ran (``precision``, ``backend``), if more is to be said than the dtype of the frames.
        origin: What `build_origin` returned.
        machine: What `describe_machine` returned; described now if None.

    Returns:
        A report that JSON can hold.

    Raises:
        ConfigError: A value cannot be written as JSON.

    Example:
        >>> report = build_report({"mAP": 0.5}, origin={"seed": 1})
        >>> report["format"], report["version"], report["mAP"], report["macs_unit"]
        ('coadtr-report', 2, 0.5, 'multiply-accumulates')
    """
    measured: dict[str, Any] = {} if cost is None else cost.to_dict()
    report = {
        "format": REPORT_FORMAT,
        "version": REPORT_VERSION,
        **dict.fromkeys(_DETAILS),
        **accuracy,
        "macs_per_frame": measured.get("macs_per_frame"),
        "macs_per_frame_published": macs_per_frame_published,
        "macs_by_block": measured.get("macs_by_block"),
        "macs_unit": MACS_UNIT,
        **{key: measured.get(key) for key in _MEASURED},
        "machine": {
            **(describe_machine() if machine is None else machine),
            **({} if cost is None else {"threads": cost.threads, "device": cost.device, "dtype": cost.dtype}),
            **(step or {}),
        },
        "origin": dict(origin),
    }
    _encode(report)
    return report


def build_origin(
    *,
    checkpoint: str | None,
    data: str,
    fingerprint: str,
    described: Mapping[str, str] | None = None,
    split: str | None,
    seed: int | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Say where the numbers of a report came from.

    Args:
        checkpoint: Folder of the checkpoint, or None for a model that was never saved.
        data: Path of the feature store.
        fingerprint: Its fingerprint.
        described: What the store says of itself: ``origin``, and ``label_rule``, by which its segments became
            frame labels.
        split: Split that was replayed, or None for all videos.
        seed: Seed of the run, if one was set.
        command: Words of the command; those of this process if None.

    Returns:
        These values, the versions of coadtr, torch, numpy and python, and the time (UTC, ISO 8601).

    Example:
        >>> origin = build_origin(
        ...     checkpoint=None, data="store.h5", fingerprint="ab12", split="test", command=["x"]
        ... )
        >>> origin["data"], origin["command"]
        ({'path': 'store.h5', 'fingerprint': 'ab12'}, 'x')
    """
    return {
        "checkpoint": checkpoint,
        "data": {"path": data, "fingerprint": fingerprint, **(described or {})},
        "split": split,
        "seed": seed,
        "versions": {
            "coadtr": coadtr.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "command": shlex.join(sys.argv if command is None else command),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def describe_machine() -> dict[str, Any]:
    """Name the machine that latencies were measured on.

    Returns:
        ``cpu`` name, ``cores`` of the machine and those ``cores_usable`` by this process, ``threads`` of
        torch, ``gpu`` name or None, ``system``, ``torch`` version.

    Example:
        >>> sorted(describe_machine())
        ['cores', 'cores_usable', 'cpu', 'gpu', 'system', 'threads', 'torch']
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(terse=True),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    # `platform.processor()` is empty or just the architecture on Linux.
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def write_report(report: Mapping[str, Any], path: str | Path) -> Path:
    """Write a report as JSON, whole or not at all.

    Args:
        report: What `build_report` returned.
        path: File to write; its folder is made, a file there is replaced.

    Returns:
        The path.

    Raises:
        ConfigError: ``path`` is a folder, or a value cannot be written as JSON.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_report({"mAP": 0.5}, Path(folder) / "report.json")
        ...     json.loads(path.read_text())
        {'mAP': 0.5}
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file to write the report to, such as {path / 'report.json'}")
    text = _encode(report)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _encode(report: Mapping[str, Any]) -> str:
    try:
        return json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the report cannot be written as JSON ({error}); use plain finite values") from error
