"""The processes of one evaluation, as torchrun, SLURM with torchrun, or Lightning started them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import torch
from torch import distributed

from coadtr.errors import CoadtrError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Ranks"]

_PATIENCE = timedelta(days=7)  # the lead may wait for others for as long as a replay takes


@dataclass
class Ranks:
    """This process among those that share the work; one process alone is rank 0 of 1.

    Use it as a context: on entering, the process joins the group that the environment describes (``WORLD_SIZE``,
    ``RANK``, ``MASTER_ADDR``, ``MASTER_PORT``), or a group that is there already, as under Lightning.

    Attributes:
        gpu: Whether the processes compute on GPUs, and talk by nccl; else by gloo.
        rank: Number of this process.
        size: Number of processes.

    Raises:
        ConfigError: The environment names a group that cannot be joined.

    Example:
        >>> with Ranks() as ranks:
        ...     ranks.rank, ranks.size, ranks.lead
        (0, 1, True)
    """

    gpu: bool = False
    rank: int = 0
    size: int = 1
    _joined: bool = False

    @property
    def local(self) -> int:
        """Number of this process on its machine, which is the GPU that it takes."""
        return int(os.environ.get("LOCAL_RANK", "0"))

    @property
    def lead(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def __enter__(self) -> Self:
        if not distributed.is_available():
            return self
        if not distributed.is_initialized() and _started() > 1:
            backend = "nccl" if self.gpu else "gloo"
            try:
                if self.gpu:
                    torch.cuda.set_device(self.local)  # what nccl gathers through
                distributed.init_process_group(backend, timeout=_PATIENCE)
            except (RuntimeError, ValueError) as error:
                raise ConfigError(f"cannot join the other processes ({error}): start them all with torchrun") from error
            self._joined = True
        if distributed.is_initialized():
            self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined:
            distributed.destroy_process_group()
            self._joined = False

    def together(self, work: Callable[[], None]) -> None:
        """Do a piece of work in every process, and go on when all are done; what fails in one fails in all.

        Args:
            work: The work.

        Raises:
            Exception: What the work raised here.
            CoadtrError: Another process failed, or is gone.
        """
        failed: Exception | None = None
        try:
            work()
        except Exception as error:
            if self.size == 1:
                raise
            failed = error
        if self.size > 1:
            self._agree(failed)

    def _agree(self, failed: Exception | None) -> None:
        found: list[tuple[bool, str] | None] = [None] * self.size
        told = None if failed is None else (isinstance(failed, ConfigError), str(failed))
        try:
            distributed.all_gather_object(found, told)
        except RuntimeError as error:
            raise failed or CoadtrError("another process is gone: run the same command again to go on") from error
        if failed is not None:
            raise failed
        for rank, said in enumerate(found):
            if said is not None:
                kind = ConfigError if said[0] else CoadtrError
                raise kind(f"process {rank} of {self.size} failed: {said[1]}")


def _started() -> int:
    size = os.environ.get("WORLD_SIZE", "1")
    if not size.isdecimal():
        raise ConfigError(f"WORLD_SIZE is {size!r}; leave it to torchrun")
    return int(size)
