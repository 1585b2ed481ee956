"""What may end a training run, as one line that says what is kept and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from coadtr.errors import TrainingError

__all__ = ["explained"]

# How torch says that it got no memory on a CPU; there is no class of its own for that.
CPU_MEMORY = ("can't allocate memory", "not enough memory")


@contextmanager
def explained(out: Path, *, batch_size: int) -> Iterator[None]:
    """Say of errors of a training run which epoch is kept, and of memory that ran out what to lower.

    Args:
        out: Folder of the run.
        batch_size: Clips, or spans, in a batch.

    Raises:
        TrainingError: In place of an error about memory or of training.
    """
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{error}{_kept(out)}") from error
    except (MemoryError, RuntimeError) as error:
        ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not ran_out and not any(said in str(error) for said in CPU_MEMORY):
            raise
        raise TrainingError(
            f"out of memory: lower trainer.batch_size ({batch_size}; trainer.accumulate makes up for it) "
            f"or trainer.sequence_length{_kept(out)}"
        ) from error


def _kept(out: Path) -> str:
    if not (out / "lightning" / "best.ckpt").exists():
        return ""
    return f"; the best epoch so far is kept: coadtr export run={out}"
