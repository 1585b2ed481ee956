"""Many videos: one after the other, or by processes on this machine, with the same result."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from coadtr.errors import DataError
from coadtr.video.workers import extract_video

if TYPE_CHECKING:
    from coadtr.video.sources import Source
    from coadtr.video.workers import Extraction, Networks, VideoFeatures

__all__ = ["extract_all"]


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

    Yields:
        What came of each video: in the order given with one worker, as they are done with more.

    Raises:
        DataError: If a worker process dies.

    Example:
        >>> from coadtr.video.sources import Source
        >>> from coadtr.video.workers import Extraction
        >>> [done.name for done in extract_all([Source("a", "a.mp4")], Extraction(), networks={})]
        ['a']
    """
    if workers == 1 or len(sources) < 2:
        for source in sources:
            yield extract_video(source, extraction, networks=networks, tell=tell)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(sources)), mp_context=multiprocessing.get_context("spawn"), initializer=_begin
    )
    try:
        futures = [pool.submit(extract_video, source, extraction) for source in sources]
        for future in as_completed(futures):
            done = future.result()
            if tell is not None:
                tell(done.frames)
            yield done
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
