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
from coadtr.cli.serve import TOKEN
from coadtr.cli.settings import a_path, of_kind, one_of, plain, require, text, whether, whole
from coadtr.errors import ConfigError, MissingExtraError
from coadtr.live import (
    LATE,
    AnnotatedVideo,
    EventLines,
    JsonLines,
    LiveDetector,
    LiveSource,
    PageView,
    TerminalView,
    View,
)
from coadtr.live.page import Board
from coadtr.live.terminal import summary
from coadtr.live.told import Labels
from coadtr.runtime import EventDecoder, OnlineDetector, Stepper
from coadtr.video import Eyes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Watch a video and answer it until it ends, or until told to stop."""
    require(cfg, "checkpoint", "source")
    settings = plain(cfg)
    source, files = _source(settings), _files(settings)
    events, gaps, non_finite = read_events(settings), read_gaps(settings), read_non_finite(settings)
    late, name = one_of(LATE, settings["late"], "late"), of_kind(str, settings["name"], "name")
    device, threads = of_kind(str, settings["device"], "device"), whole(settings, "threads", least=1)
    logging.basicConfig(format="coadtr: %(message)s")
    path = a_path(settings, "checkpoint")
    stepper = stepper_of(path, device=device if path.suffix != ".onnx" else None, threads=threads)
    told = stepper.description
    detector = OnlineDetector(stepper, non_finite=non_finite, gaps=gaps)
    live = LiveDetector(
        source,
        Eyes.of(told, device=device, threads=threads),
        detector,
        lambda: EventDecoder(told.class_names, told.background, told.rate_hz, events),
        stream=name,
        late=late,
        max_lag=float(of_kind(float, settings["max_lag"], "max_lag")),
    )
    labels = Labels(told.class_names, told.background, told.ignored)
    # What a program reads from standard output is not to be mixed with what people read.
    console = Console(stderr=settings["json"] == "-")
    with ExitStack() as stack, _stopping(source):
        views: list[View] = []

        def show(view: View) -> None:
            views.append(view)
            stack.callback(view.close)  # also if the next view cannot be had

        if "json" in files:
            show(JsonLines(files["json"], told.class_names))
        if "video" in files:
            show(AnnotatedVideo(Path(files["video"]), labels))
        if whether(settings, "page"):
            board = _board(settings, stepper, stack, console, name)
            show(PageView(board, name, source.name, live.totals))
        shown = console.is_terminal if settings["terminal"] is None else whether(settings, "terminal")
        show(TerminalView(source.name, labels, live.totals, console) if shown else EventLines(console))
        totals = live.run(views)
    console.print(summary(totals), markup=False, highlight=False, soft_wrap=True)
    for kept in files.values():
        if kept != "-":
            console.print(f"written to {kept}", markup=False, highlight=False, soft_wrap=True)


def _source(settings: dict[str, Any]) -> LiveSource:
    seconds = {
        name: None if settings[name] is None else float(of_kind(float, settings[name], name))
        for name in ("max_seconds", "reconnect_seconds")
    }
    return LiveSource(str(settings["source"]), realtime=whether(settings, "realtime"), **seconds)


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


def _board(settings: dict[str, Any], stepper: Stepper, stack: ExitStack, console: Console, name: str) -> Board:
    """Start the server of the page, until the stack is left, and say where it is."""
    try:
        from coadtr.serving import ServerSettings  # noqa: PLC0415 - the extra may be missing
        from coadtr.serving.server import bind, served  # noqa: PLC0415
        from coadtr.serving.service import open_service  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f'a page needs {error.name}: run `pip install "coadtr[serve]"`') from error
    wanted = ServerSettings(
        host=of_kind(str, settings["host"], "host"),
        port=whole(settings, "port", least=0),
        token=text(settings, "token") or os.environ.get(TOKEN) or None,
    )
    listener = stack.enter_context(bind(wanted))
    service = open_service(OnlineDetector(stepper), wanted)
    at = stack.enter_context(served(service, listener))
    console.print(f"page: {at}/?stream={quote(name)}", markup=False, highlight=False, soft_wrap=True)
    return service.board


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
