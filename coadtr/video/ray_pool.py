"""Many videos over several machines, by Ray Data, with the same result as on one."""

from __future__ import annotations

import logging
import os
import pickle
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from coadtr.errors import DataError, MissingExtraError
from coadtr.video.sources import Source
from coadtr.video.workers import Extraction, extract_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coadtr.video.workers import Networks, VideoFeatures

__all__ = ["extract_all_on_ray", "on_ray"]


class _Worker:
    """What works in each process of the cluster: it loads the networks once and takes one video after another."""

    def __init__(self, extraction: Extraction) -> None:
        self._extraction = extraction
        self._networks = extraction.load()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        done = extract_video(Source(row["name"], row["location"]), self._extraction, networks=self._networks)
        # One value in one column: a table of Ray would widen float16 and pad videos to one length.
        return {"done": pickle.dumps(done)}


def on_ray(address: str | None = None) -> Callable[..., Iterator[VideoFeatures]]:
    """Return what `extract` takes as ``work`` to run on a Ray cluster.

    Args:
        address: Address of a running cluster, ``'auto'`` for the one that this machine belongs to, or none for a local
            one that is started here and ends with the work.

    Raises:
        MissingExtraError: If Ray is not installed.

    Example:
        >>> on_ray().func.__name__
        'extract_all_on_ray'
    """
    _ray()
    return partial(extract_all_on_ray, address=address)


def extract_all_on_ray(
    sources: Sequence[Source],
    extraction: Extraction,
    *,
    networks: Networks,  # noqa: ARG001 - each process of the cluster loads its own
    workers: int = 1,
    tell: Callable[[int], None] | None = None,
    address: str | None = None,
) -> Iterator[VideoFeatures]:
    """Make the features of many videos on a Ray cluster; each is independent of the others.

    Every machine must find the videos under the same path or address, and have coadtr with the extra ``ray``.

    Args:
        sources: The videos.
        extraction: How features are made.
        networks: Not used.
        workers: Processes of the cluster that work at the same time.
        tell: Called with the number of video frames decoded since the last call.
        address: Address of the cluster, see `on_ray`.

    Yields:
        What came of each video, as they are done.

    Raises:
        MissingExtraError: If Ray is not installed.
        DataError: If the cluster cannot be reached or its processes die.
    """
    if not sources:
        return
    ray = _ray()
    with _cluster(address):
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [{"name": source.name, "location": source.location} for source in sources]
        todo = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(extraction,),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=extraction.threads,
            num_gpus=1 if extraction.device.startswith("cuda") else 0,
        )
        try:
            for row in todo.iter_rows():
                done: VideoFeatures = pickle.loads(row["done"])  # noqa: S301 - from a process of our own
                if tell is not None:
                    tell(done.frames)
                yield done
        except ray.exceptions.RayError as error:
            cause = " ".join(str(error).split())[-300:]
            raise DataError(f"the Ray cluster failed ({cause}): run the same command again to go on") from error


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # standard error is for what the user can act on
    try:
        import ray  # noqa: PLC0415 - an extra, and heavy
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError('Ray is not installed: pip install "coadtr[ray]"') from error
    return ray


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Use the cluster that is connected, or connect for the time of the work."""
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            address=address, include_dashboard=None if address else False, log_to_driver=False, logging_level="ERROR"
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:300]
        raise DataError(
            f"no Ray cluster at {address!r} ({cause}): give the address of a running one, or null for a local one"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
