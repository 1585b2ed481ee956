"""Many videos: one after the other, or by processes on this machine, with the same result."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Final

from coadtr.errors import DataError
from coadtr.video.sources import refuse_endless
from coadtr.video.workers import extract_video

if TYPE_CHECKING:
    from coadtr.video.sources import Source
    from coadtr.video.workers import Extraction, Networks, VideoFeatures

__all__ = ["extract_all"]

# Videos handed to each process: one in work and one waiting. Features that are done wait in memory, so no more.
_AHEAD: Final = 2


def extract_all(
    sources: Sequence[Source],
    extraction: Extraction,
    *,
    networks: Networks,
    workers: int = 1,
    tell: Callable[[int], None] | None = None,
) -> Iterator[VideoFeatures]:
    """Make the features of many videos; each is independent of the others.

    Args:
        sources: The videos.
        extraction: How features are made.
        networks: The networks, for the work that is done in this process.
        workers: Processes; 1 works in this one.
        tell: Called with the number of video frames decoded since the last call.

    Returns:
        What came of each video: in the order given with one worker, as they are done with more.

    Raises:
        ConfigError: If an address may never end, before any video is read.
        DataError: If a worker process dies.

    Example:
        >>> from coadtr.video.sources import Source
        >>> from coadtr.video.workers import Extraction
        >>> [done.name for done in extract_all([Source("a", "a.mp4")], Extraction(), networks={})]
        ['a']
    """
    refuse_endless(sources, extraction.max_seconds)
    if workers == 1 or len(sources) < 2:
        return (extract_video(source, extraction, networks=networks, tell=tell) for source in sources)
    return _by_processes(sources, extraction, workers, tell)


def _by_processes(
    sources: Sequence[Source], extraction: Extraction, workers: int, tell: Callable[[int], None] | None
) -> Iterator[VideoFeatures]:
    pool = ProcessPoolExecutor(
        min(workers, len(sources)), mp_context=multiprocessing.get_context("spawn"), initializer=_begin
    )
    try:
        waiting = iter(sources)
        pending: set[Future[VideoFeatures]] = set()
        while True:
            more = itertools.islice(waiting, _AHEAD * workers - len(pending))
            pending |= {pool.submit(extract_video, source, extraction) for source in more}
            if not pending:
                return
            future = next(iter(wait_for(pending, return_when=FIRST_COMPLETED).done))
            pending.remove(future)
            done = future.result()
            if tell is not None:
                tell(done.frames)
            yield done
            del done, future
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process ended at once (out of memory, or a decoder that crashed): run the same command again "
            "to go on, with fewer workers"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the main process, and end with it, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
