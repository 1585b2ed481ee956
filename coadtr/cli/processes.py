"""Several processes of one command on this machine, started and watched by the command itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from coadtr.errors import ConfigError, TrainingError

__all__ = ["leads", "run_processes", "started_outside", "tell", "this_command"]

# What torchrun and SLURM set for each process that they start.
OUTSIDE = ("WORLD_SIZE", "SLURM_PROCID")
# Where a process that is watched says why it ends.
ERROR_FILE = "COADTR_ERROR_FILE"
POLL_S = 0.2


def started_outside() -> bool:
    """Whether something else, such as torchrun or srun, has started this process as one of several."""
    return any(name in os.environ for name in OUTSIDE)


def leads() -> bool:
    """Whether this process is the one of several that speaks."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID"))


def run_processes(command: Sequence[str], count: int, *, nodes: int = 1) -> None:
    """Run a command in several processes that find each other as torchrun's do, and wait for all of them.

    The first one speaks; of the others only an error is shown. When one fails, the others are ended.

    Args:
        command: The command and its arguments.
        count: Processes.
        nodes: Machines; more than one need torchrun or srun.

    Raises:
        ConfigError: If there is more than one machine.
        TrainingError: If a process failed; a ConfigError that ended the first one comes out as it is.
    """
    if nodes > 1:
        raise ConfigError(f"trainer.nodes={nodes} needs torchrun or srun on every machine, as docs/training.md shows")
    told = os.environ | {"WORLD_SIZE": str(count), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    told |= {"MASTER_PORT": str(_free_port())}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        errors = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, count)]
        running: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(count):
                shown = {} if rank == 0 else {"stdout": subprocess.DEVNULL, "stderr": errors[rank - 1]}
                environment = told | {"RANK": str(rank), "LOCAL_RANK": str(rank), ERROR_FILE: str(folder / str(rank))}
                running.append(subprocess.Popen(command, env=environment, **shown))  # type: ignore[call-overload] # noqa: S603
            failed = _first_failure(running)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
        if failed is not None:
            said = folder / str(failed)
            if failed == 0 and said.exists():
                code, _, message = said.read_text(encoding="utf-8").partition(" ")
                raise (ConfigError if code == "2" else TrainingError)(message)
            message = "see its message above" if failed == 0 else _last_line(said, errors[failed - 1])
            raise TrainingError(f"process {failed} of {count} failed: {message}")


def tell(message: str, code: int) -> None:
    """Say why this process ends: to the process that started it and watches it, or on standard error."""
    if ERROR_FILE in os.environ:
        Path(os.environ[ERROR_FILE]).write_text(f"{code} {message}", encoding="utf-8")
    else:
        print(f"coadtr: error: {message}", file=sys.stderr)


def _first_failure(running: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended well, or one has not; return its number."""
    while True:
        codes = [process.poll() for process in running]
        for rank, code in enumerate(codes):
            if code:
                return rank
        if all(code == 0 for code in codes):
            return None
        time.sleep(POLL_S)


def _last_line(said: Path, file: IO[bytes]) -> str:
    if said.exists():
        return said.read_text(encoding="utf-8").partition(" ")[2]
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("coadtr: error: ") if lines else "it said nothing"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def this_command(name: str, overrides: Sequence[str]) -> list[str]:
    """Write a command of coadtr so that another process can run it."""
    return [sys.executable, "-m", "coadtr.cli.main", *name.split(), *overrides]
