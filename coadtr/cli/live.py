"""``coadtr live``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.detectors import read_events, read_gaps, read_non_finite, stepper_of
from coadtr.cli.serve import TOKEN, warn_if_open
from coadtr.cli.settings import a_path, of_kind, one_of, plain, require, text, whether, whole
from coadtr.errors import ConfigError, DataError, MissingExtraError
from coadtr.live import (
    LATE,
    AnnotatedVideo,
    Ears,
    EventLines,
    JsonLines,
    LiveDetector,
    LiveSource,
    PageView,
    TerminalView,
    View,
)
from coadtr.live.hearing import hears
from coadtr.live.terminal import summary
from coadtr.live.told import Labels
from coadtr.runtime import EventDecoder, OnlineDetector, Stepper
from coadtr.serving import ServerSettings
from coadtr.serving.protocol import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from socket import socket

    from coadtr.live.senses import Senses
    from coadtr.runtime import Description
    from coadtr.serving.service import Service

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Watch a video, or listen to sound, and answer until it ends, or until told to stop."""
    require(cfg, "checkpoint", "source")
    settings = plain(cfg)
    seconds = _seconds(settings)
    files, wanted = _files(settings), _server(settings)
    logging.basicConfig(format="coadtr: %(message)s")
    # What a program reads from standard output is not to be mixed with what people read.
    console = Console(stderr=settings["json"] == "-")
    shown = console.is_terminal if settings["terminal"] is None else whether(settings, "terminal")
    with ExitStack() as stack:
        # What is quickly told is told before the networks are loaded.
        stepper = _stepper(settings)
        told = stepper.description
        ears = _ears(told)
        source = _source(settings, seconds, ears)
        source.check()
        listener = None if wanted is None else stack.enter_context(_bound(wanted))
        live = _detector(settings, source, stepper, ears)
        labels = Labels(told.class_names, told.background, told.ignored)
        views: list[View] = []

        def show(view: View) -> None:
            views.append(view)
            stack.callback(view.close)  # also if the next view cannot be had

        if "json" in files:
            show(JsonLines(files["json"], told.class_names))
        if "video" in files:
            show(AnnotatedVideo(Path(files["video"]), labels))
        if listener is not None and wanted is not None:
            service = _open_page(stepper, wanted)
            service.board.reserve(live.stream)  # before a client can open a stream of that name
            show(PageView(service.board, live.stream, source.name, live.totals))
            at = stack.enter_context(_serving(service, listener))
            _say(console, f"page: {at}/?stream={quote(live.stream)}")
        stack.enter_context(_stopping(source))
        show(
            TerminalView(source.name, labels, live.totals, console)
            if shown
            else EventLines(console, f"{source.name}: {told.rate_hz:g} answers a second")
        )
        totals = live.run(views)
    if not shown:  # the terminal's last picture has it
        _say(console, summary(totals))
    for kept in files.values():
        if kept != "-":
            _say(console, f"written to {kept}")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _stepper(settings: dict[str, Any]) -> Stepper:
    device, threads = of_kind(str, settings["device"], "device"), whole(settings, "threads", least=1)
    path = a_path(settings, "checkpoint")
    return stepper_of(path, device=device if path.suffix != ".onnx" else None, threads=threads)


def _detector(settings: dict[str, Any], source: LiveSource, stepper: Stepper, ears: Ears | None) -> LiveDetector:
    events, gaps, non_finite = read_events(settings), read_gaps(settings), read_non_finite(settings)
    late, max_lag = one_of(LATE, settings["late"], "late"), float(of_kind(float, settings["max_lag"], "max_lag"))
    told = stepper.description
    return LiveDetector(
        source,
        ears or _eyes(settings, told),
        OnlineDetector(stepper, non_finite=non_finite, gaps=gaps),
        lambda: EventDecoder(told.class_names, told.background, told.rate_hz, events),
        stream=_stream_name(settings),
        late=late,
        max_lag=max_lag,
    )


def _ears(told: Description) -> Ears | None:
    """Return the front end of a checkpoint of sound; None for one of pictures."""
    return Ears.of(told, rate_hz=told.rate_hz) if hears(told.extractors, told.streams) else None


def _eyes(settings: dict[str, Any], told: Description) -> Senses:
    from coadtr.video import Eyes  # noqa: PLC0415 - sound does without networks

    return Eyes.of(told, device=settings["device"], threads=settings["threads"])


def _seconds(settings: dict[str, Any]) -> dict[str, float | None]:
    return {
        name: None if settings[name] is None else float(of_kind(float, settings[name], name))
        for name in ("max_seconds", "reconnect_seconds")
    }


def _source(settings: dict[str, Any], seconds: dict[str, float | None], ears: Ears | None) -> LiveSource:
    if ears is not None and (video := text(settings, "video")) is not None:
        raise ConfigError(f"video={video}: the checkpoint takes sound, which has no picture; use json= or page=true")
    sound_hz = None if ears is None else ears.front_end.rate_hz
    return LiveSource(str(settings["source"]), realtime=whether(settings, "realtime"), sound_hz=sound_hz, **seconds)


def _files(settings: dict[str, Any]) -> dict[str, str]:
    """Return the files to write by setting, none of which is there unless it may be replaced."""
    files = {name: path for name in ("json", "video") if (path := text(settings, name)) is not None}
    for name, path in files.items():
        if path == "-" and name == "json":
            continue
        if [Path(other).resolve() for other in files.values()].count(Path(path).resolve()) > 1:
            raise ConfigError(f"{name}={path} is written twice: name another file")
        if not whether(settings, "overwrite") and Path(path).exists():
            raise ConfigError(f"{name}={path} is there: name another file, or say overwrite=true")
        if Path(path).resolve() == Path(str(settings["source"])).resolve():
            raise ConfigError(f"{name}={path} is the source: name another file")
    return files


def _server(settings: dict[str, Any]) -> ServerSettings | None:
    """Read where the page is served; None if there is none."""
    _stream_name(settings)
    if not whether(settings, "page"):
        return None
    wanted = ServerSettings(
        host=of_kind(str, settings["host"], "host"),
        port=whole(settings, "port", least=0),
        token=text(settings, "token") or os.environ.get(TOKEN) or None,
    )
    warn_if_open(wanted)
    return wanted


def _stream_name(settings: dict[str, Any]) -> str:
    """Read the name of the stream.

    Raises:
        ConfigError: If a page could not be opened under it.
    """
    name = of_kind(str, settings["name"], "name")
    try:
        check_name(name)
    except DataError as error:
        raise ConfigError(f"name={name!r}: {error}") from error
    return name


def _bound(wanted: ServerSettings) -> socket:
    try:
        from coadtr.serving.server import bind  # noqa: PLC0415 - the extra may be missing
    except ImportError as error:
        raise MissingExtraError(f'a page needs {error.name}: run `pip install "coadtr[serve]"`') from error
    return bind(wanted)


def _open_page(stepper: Stepper, wanted: ServerSettings) -> Service:
    """Make the server of the page."""
    from coadtr.serving.service import open_service  # noqa: PLC0415

    return open_service(OnlineDetector(stepper), wanted)


def _serving(service: Service, listener: socket) -> AbstractContextManager[str]:
    """Serve on a thread of this process."""
    from coadtr.serving.server import served  # noqa: PLC0415

    return served(service, listener)


@contextmanager
def _stopping(source: LiveSource) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the stream, and a second one the process."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: object) -> None:
        source.stop()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.stdout.flush()
