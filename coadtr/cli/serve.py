"""``coadtr serve``."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from coadtr.cli.detectors import read_events, read_gaps, read_non_finite, stepper_of
from coadtr.cli.settings import a_path, fill, names, of_kind, plain, require, text, whether, whole
from coadtr.errors import MissingExtraError
from coadtr.runtime import OnlineDetector
from coadtr.serving import Limits, ServerSettings

if TYPE_CHECKING:
    from coadtr.runtime import Description
    from coadtr.serving import Eyes

__all__ = ["main"]

TOKEN = "COADTR_TOKEN"  # noqa: S105 - a variable of the environment, which `ps` does not show


def main(cfg: DictConfig) -> None:
    """Serve until told to stop."""
    require(cfg, "checkpoint")
    settings = plain(cfg)
    wanted, path = server_settings(settings), a_path(settings, "checkpoint")
    gaps, non_finite, pictures = read_gaps(settings), read_non_finite(settings), whether(settings, "pictures")
    device, threads = text(settings, "device"), whole(settings, "threads", least=1)
    try:
        from coadtr.serving.server import address, bind, run  # noqa: PLC0415 - the extra may be missing
        from coadtr.serving.service import open_service  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f'a server needs {error.name}: run `pip install "coadtr[serve]"`') from error
    logging.basicConfig(format="coadtr: %(message)s")
    warn_if_open(wanted)
    with bind(wanted) as listener:  # before the seconds that a checkpoint may take
        # With pictures, the device of an exported file is that of the networks which look at them.
        own = None if pictures and path.suffix == ".onnx" else device
        detector = OnlineDetector(stepper_of(path, device=own, threads=threads), non_finite=non_finite, gaps=gaps)
        eyes = _eyes(detector.description, device or "cpu", threads) if pictures else None
        service = open_service(detector, wanted, eyes)
        kept = (
            f"; {count} {'stream goes' if count == 1 else 'streams go'} on" if (count := len(detector.streams)) else ""
        )
        line = (
            f"serving {path} at {address(listener)} ({detector.input_dim} values a frame, "
            f"{len(detector.class_names)} classes, {detector.rate_hz:g} frames a second"
            f"{', or pictures' if eyes else ''}){kept}"
        )
        run(service, listener, started=lambda: print(line, flush=True))


def warn_if_open(wanted: ServerSettings) -> None:
    """Tell whoever lets all of a network in."""
    if wanted.token is None and wanted.host not in ("localhost", "::1") and not wanted.host.startswith("127."):
        logging.getLogger("coadtr.cli").warning(
            "host=%s without a token: whoever reaches this machine may use the server", wanted.host
        )


def server_settings(settings: dict[str, Any]) -> ServerSettings:
    """Read the settings of the server.

    Raises:
        ConfigError: If one is of another kind, or out of range.
    """
    seconds = ("gather_seconds", "snapshot_seconds", "shutdown_seconds")
    return ServerSettings(
        host=of_kind(str, settings["host"], "host"),
        port=whole(settings, "port", least=0),
        token=text(settings, "token") or os.environ.get(TOKEN) or None,
        origins=tuple(names(settings, "origins") or ()) if settings["origins"] else (),
        snapshots=None if settings["snapshots"] is None else a_path(settings, "snapshots"),
        fsync=whether(settings, "fsync"),
        events=read_events(settings),
        limits=fill(Limits, settings, "limits"),
        **{name: float(of_kind(float, settings[name], name)) for name in seconds},
    )


def _eyes(description: Description, device: str, threads: int) -> Eyes:
    """Load the networks that the checkpoint was trained with."""
    try:
        from coadtr.video import Eyes as Networks  # noqa: PLC0415 - pictures alone need torch and the extra
    except ImportError as error:
        raise MissingExtraError(f'pictures=true needs {error.name}: run `pip install "coadtr[video]"`') from error
    return Networks.of(description, device=device, threads=threads)
