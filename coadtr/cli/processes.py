"""Several processes of one command on this machine, started and watched by the command itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from coadtr.errors import CoadtrError, ConfigError, TrainingError

__all__ = [
    "end_with_parent",
    "leads",
    "quoted",
    "run_processes",
    "started_here",
    "started_outside",
    "tell",
    "this_command",
]

# Where a process that is watched says why it ends, and the process that watches it.
ERROR_FILE, PARENT = "COADTR_ERROR_FILE", "COADTR_PARENT"
# What another launcher tells of its own processes, and these are not.
FOREIGN = ("SLURM_", "TORCHELASTIC_")
POLL_S = 0.2
# How long the others may take to end after one has failed, and to end when told to.
GRACE_S, END_S = 1.0, 10.0


def started_here() -> bool:
    """Whether a command of coadtr has started this process as one of several, and speaks for it."""
    return ERROR_FILE in os.environ


def started_outside(count: int) -> bool:
    """Whether a launcher, such as torchrun or srun, has started this process as one of several.

    A batch script of SLURM knows its tasks and has a number among them, whether or not srun starts its commands. What
    srun alone tells is the size of its step.

    Args:
        count: Processes that the settings ask for.

    Raises:
        ConfigError: If the launcher has started several, but not this many.
    """
    size = os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if size not in ("1", str(count)):
        raise ConfigError(
            f"trainer.devices times trainer.nodes is {count}, and torchrun or srun has started {size} processes: "
            "make both equal"
        )
    return size == str(count)


def leads() -> bool:
    """Whether this process is the one of several that speaks."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID"))


@dataclass(frozen=True)
class _Ended:
    """How a process ended: its code, what it told in its file, and what it wrote to standard error if that was kept."""

    rank: int
    code: int
    told: str
    errors: str | None

    @property
    def order(self) -> tuple[bool, bool, bool, int]:
        """Its place among those that failed; who lost another process, or was told to end, did not begin it."""
        return (not self.told, "by peer" in (self.errors or ""), self.code > 0, self.rank)

    def error(self, count: int) -> CoadtrError:
        """Make an error of it, whose cause is what `--debug` shows."""
        header, _, trace = self.told.partition("\n")
        kind, _, message = header.partition(" ")
        if self.told and self.rank == 0:
            error: CoadtrError = ConfigError(message) if kind == "2" else TrainingError(message)
        else:
            error = TrainingError(f"process {self.rank} of {count} failed: {message or self._reason()}")
        error.__cause__ = RuntimeError(f"in process {self.rank}:\n{trace or self.errors or ''}")
        return error

    def _reason(self) -> str:
        if self.code < 0:
            name = signal.strsignal(-self.code)
            return f"signal {-self.code} ({name}) ended it; run the same command again to go on"
        if self.errors is None:
            return "see its message above"
        lines = self.errors.strip().splitlines()
        return lines[-1].removeprefix("coadtr: error: ") if lines else "it said nothing"


def run_processes(command: Sequence[str], count: int, *, nodes: int = 1, progress: bool = False) -> None:
    """Run a command in several processes that find each other as torchrun's do, and wait for all of them.

    The first one speaks; of an error one line is shown, whichever failed. When one fails, or this process is told to
    end, all are ended.

    Args:
        command: The command and its arguments.
        count: Processes.
        nodes: Machines; more than one need torchrun or srun.
        progress: Show what the first one writes to standard error at once, as bars have to be; if false, at the end.

    Raises:
        ConfigError: If there is more than one machine.
        TrainingError: If a process failed; a ConfigError that ended the first one comes out as it is.
    """
    if nodes > 1:
        raise ConfigError(f"trainer.nodes={nodes} needs torchrun or srun on every machine, as docs/training.md shows")
    # Imported here: it takes seconds, and `coadtr --help` does not need it.
    from torch.distributed import TCPStore  # type: ignore[attr-defined] # noqa: PLC0415

    # The processes meet here. A port that was only looked up could be taken by another command until they come.
    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    shared |= {"WORLD_SIZE": str(count), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(meeting.port)}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", PARENT: str(os.getpid())}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kept = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        stack.enter_context(_interrupted_by_sigterm())
        running: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(count):
                out = None if rank == 0 else subprocess.DEVNULL
                errors = None if rank == 0 and progress else kept[rank]
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank), ERROR_FILE: str(folder / str(rank))}
                running.append(subprocess.Popen(command, env=shared | own, stdout=out, stderr=errors))  # noqa: S603
            codes = _codes(running)
        finally:
            _end(running)
        failed = [
            _Ended(rank, code, _told(folder / str(rank)), None if rank == 0 and progress else _read(kept[rank]))
            for rank, code in enumerate(codes)
            if code
        ]
        if failed:
            raise min(failed, key=lambda one: one.order).error(count)
        sys.stderr.write(_read(kept[0]))


def tell(message: str, code: int) -> None:
    """Say why this process ends: to the process that started it and watches it, or on standard error."""
    if started_here():
        Path(os.environ[ERROR_FILE]).write_text(f"{code} {message}\n{traceback.format_exc()}", encoding="utf-8")
    else:
        print(f"coadtr: error: {message}", file=sys.stderr)


def end_with_parent() -> None:
    """End this process, if a command of coadtr has started it, as soon as that is gone, in whatever way it ended."""
    if PARENT not in os.environ:
        return
    parent = int(os.environ[PARENT])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end this process as Ctrl-C does, unless something else, such as submitit, answers it."""
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _codes(running: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Wait until all have ended, or one has failed and the others have had time to fail with it."""
    limit = None
    while True:
        codes = [process.poll() for process in running]
        if any(codes) and limit is None:
            limit = time.monotonic() + GRACE_S
        if None not in codes or (limit is not None and time.monotonic() > limit):
            return codes
        time.sleep(POLL_S)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes: one that computes together with others may be deaf to anything but SIGKILL."""
    for process in running:
        process.terminate()
    limit = time.monotonic() + END_S
    for process in running:
        try:
            process.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _told(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def quoted(text: str) -> str:
    """Write a text so that Hydra reads it as it is.

    Example:
        >>> quoted("a b,c")
        "'a b,c'"
    """
    from hydra.core.override_parser.types import Quote, QuotedString  # noqa: PLC0415 - `coadtr --help` needs no Hydra

    return QuotedString(text=text, quote=Quote.single).with_quotes()


def this_command(name: str, overrides: Sequence[str]) -> list[str]:
    """Write a command of coadtr so that another process can run it."""
    return [sys.executable, "-m", "coadtr.cli.main", *name.split(), *overrides]
