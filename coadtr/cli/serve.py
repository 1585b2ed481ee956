"""``coadtr serve``."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from coadtr.cli.naming import named_in_full
from coadtr.cli.settings import a_path, fill, group, names, of_kind, one_of, plain, require, text, whether, whole
from coadtr.errors import ConfigError, MissingExtraError
from coadtr.runtime import EventSettings, GapPolicy, OnlineDetector, OnnxStepper, Stepper
from coadtr.serving import Limits, NativeStepper, ServerSettings

__all__ = ["main"]

NON_FINITE: tuple[Literal["reject", "mask"], ...] = ("reject", "mask")
TOKEN = "COADTR_TOKEN"  # noqa: S105 - a variable of the environment, which `ps` does not show


def main(cfg: DictConfig) -> None:
    """Serve until told to stop."""
    require(cfg, "checkpoint")
    settings = plain(cfg)
    wanted, path = server_settings(settings), a_path(settings, "checkpoint")
    gaps, non_finite = _gaps(settings), one_of(NON_FINITE, settings["non_finite"], "non_finite")
    try:
        from coadtr.serving.server import address, bind, run  # noqa: PLC0415 - the extra may be missing
        from coadtr.serving.service import open_service  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f'a server needs {error.name}: run `pip install "coadtr[serve]"`') from error
    logging.basicConfig(format="coadtr: %(message)s")
    with bind(wanted) as listener:  # before the seconds that a checkpoint may take
        detector = OnlineDetector(_stepper(settings, path), non_finite=non_finite, gaps=gaps)
        service = open_service(detector, wanted)
        kept = f"; {count} streams go on" if (count := len(detector.streams)) else ""
        line = (
            f"serving {path} at {address(listener)} ({detector.input_dim} values a frame, "
            f"{len(detector.class_names)} classes, {detector.rate_hz:g} frames a second){kept}"
        )
        run(service, listener, started=lambda: print(line, flush=True))


def server_settings(settings: dict[str, Any]) -> ServerSettings:
    """Read the settings of the server.

    Raises:
        ConfigError: If one is of another kind, or out of range.
    """
    with named_in_full({"events": group(settings, "events")}):
        events = EventSettings.from_dict(group(settings, "events"))
    seconds = ("gather_seconds", "snapshot_seconds", "shutdown_seconds")
    return ServerSettings(
        host=of_kind(str, settings["host"], "host"),
        port=whole(settings, "port", least=0),
        token=text(settings, "token") or os.environ.get(TOKEN) or None,
        origins=tuple(names(settings, "origins") or ()) if settings["origins"] else (),
        snapshots=None if settings["snapshots"] is None else a_path(settings, "snapshots"),
        fsync=whether(settings, "fsync"),
        events=events,
        limits=fill(Limits, settings, "limits"),
        **{name: float(of_kind(float, settings[name], name)) for name in seconds},
    )


def _gaps(settings: dict[str, Any]) -> GapPolicy:
    gaps, known = group(settings, "gaps"), [field.name for field in dataclasses.fields(GapPolicy)]
    if unknown := [name for name in gaps if name not in known]:
        raise ConfigError(f"gaps.{unknown[0]} is not a setting; gaps has {', '.join(known)}")
    with named_in_full({"gaps": gaps}):
        return GapPolicy(**gaps)


def _stepper(settings: dict[str, Any], path: Path) -> Stepper:
    threads, device = whole(settings, "threads", least=1), text(settings, "device")
    if path.suffix != ".onnx":
        return NativeStepper(path, device=device, threads=threads)
    if device is not None:
        raise ConfigError(f"device={device}: an ONNX file runs on the CPU; serve the checkpoint's folder instead")
    return OnnxStepper(path, threads=threads)
