"""The settings of a detector that runs live, for the commands that run one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from coadtr.cli.naming import named_in_full
from coadtr.cli.settings import group, one_of
from coadtr.errors import ConfigError
from coadtr.runtime import EventSettings, GapPolicy, OnnxStepper, Stepper
from coadtr.serving import NativeStepper

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_events", "read_gaps", "read_non_finite", "stepper_of"]

_NON_FINITE: tuple[Literal["reject", "mask"], ...] = ("reject", "mask")


def read_events(settings: dict[str, Any]) -> EventSettings:
    """Read when an action starts and ends.

    Raises:
        ConfigError: If a value is unknown or out of range.
    """
    with named_in_full({"events": group(settings, "events")}):
        return EventSettings.from_dict(group(settings, "events"))


def read_gaps(settings: dict[str, Any]) -> GapPolicy:
    """Read what happens where frames are missing.

    Raises:
        ConfigError: If a value is unknown or out of range.
    """
    gaps, known = group(settings, "gaps"), [field.name for field in dataclasses.fields(GapPolicy)]
    if unknown := [name for name in gaps if name not in known]:
        raise ConfigError(f"gaps.{unknown[0]} is not a setting; gaps has {', '.join(known)}")
    with named_in_full({"gaps": gaps}):
        return GapPolicy(**gaps)


def read_non_finite(settings: dict[str, Any]) -> Literal["reject", "mask"]:
    """Read what happens to values that are not finite."""
    return one_of(_NON_FINITE, settings["non_finite"], "non_finite")


def stepper_of(path: Path, *, device: str | None, threads: int) -> Stepper:
    """Open a checkpoint: an exported file, or a folder.

    Raises:
        ConfigError: If an exported file is to run on another device than the CPU.
        CheckpointError: If it is missing or damaged.
    """
    if path.suffix != ".onnx":
        return NativeStepper(path, device=device, threads=threads)
    if device is not None:
        raise ConfigError(f"device={device}: an ONNX file runs on the CPU; give the checkpoint's folder instead")
    return OnnxStepper(path, threads=threads)
