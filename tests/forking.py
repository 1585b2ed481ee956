"""Processes that share one import of the package: each starts in a moment, not in the seconds of an interpreter.

A server imports the package once, and forks for each process. That is a process as any other: it finds others, has an
exit code and can be killed. What is said while the package is imported is not seen so; `spawn` of
tests/cli/calling.py shows that.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from coadtr.cli.main import main
from tests.cli.calling import Outcome

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["coadtr.cli.train", "coadtr.cli.replay"])

LONGEST_S = 300


def command(*words: str) -> None:
    """Run the console script."""
    sys.argv = ["coadtr", *words]
    main()


def script(path: str, *words: str) -> None:
    """Run a file as Python does that is given it."""
    sys.argv = [path, *words]
    runpy.run_path(path, run_name="__main__")


@dataclass(frozen=True)
class Forked:
    """A process that was started, and where it writes."""

    process: ForkServerProcess
    out: Path
    err: Path

    def wait(self) -> Outcome:
        """Wait for its end."""
        self.process.join(LONGEST_S)
        code = self.process.exitcode
        assert code is not None, f"not at its end: {self.err.read_text()}"
        return Outcome(code, self.out.read_text(), self.err.read_text() if self.err.is_file() else "")


@contextlib.contextmanager
def forked(
    work: Callable[..., None],
    *words: Any,
    folder: Path,
    terminal: str | None = None,
    **environment: str,
) -> Iterator[Forked]:
    """Let a process do this work in a folder; it does not outlive the block.

    Args:
        work: A function of a module, such as `command`.
        words: What it is called with.
        folder: The working folder.
        terminal: A terminal to have as standard error.
        environment: Changes to the environment.
    """
    with tempfile.TemporaryDirectory() as written:
        out, err = Path(written, "out"), Path(terminal or Path(written, "err"))
        process = FORKS.Process(target=_begin, args=(work, words, folder, (out, err), {**os.environ, **environment}))
        process.start()
        try:
            yield Forked(process, out, err)
        finally:
            process.kill()
            process.join()


def _begin(
    work: Callable[..., None], words: Sequence[Any], folder: Path, streams: Sequence[Path], environment: dict[str, str]
) -> None:
    for stream, path in enumerate(streams, start=1):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOCTTY, 0o600)
        os.dup2(handle, stream)
        os.close(handle)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    warnings.simplefilter("default")
    torch.set_num_threads(1)
    work(*words)


def side_by_side(work: Callable[..., None], count: int, *words: Any, folder: Path, **environment: str) -> list[Outcome]:
    """Do this work in several processes that find each other as torchrun's do; tell how each ended."""
    meeting = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    shared = {**environment, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(meeting.port)}
    shared |= {"TORCHELASTIC_RUN_ID": "tests", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with contextlib.ExitStack() as stack:
        started = []
        for rank in map(str, range(count)):
            process = forked(work, *words, folder=folder, **shared, RANK=rank, LOCAL_RANK=rank)
            started.append(stack.enter_context(process))
        return [process.wait() for process in started]
