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
# Where torch's compiler has its errors; named here because importing it takes seconds.
COMPILER = ("torch._dynamo.exc", "torch._inductor.exc")


@contextmanager
def explained(out: Path, *, batch_size: int) -> Iterator[None]:
    """Say of errors of a training run which epoch is kept, and of memory and the compiler what to do.

    Args:
        out: Folder of the run.
        batch_size: Clips, or spans, in a batch.

    Raises:
        TrainingError: In place of an error of training, of memory or of the compiler.
    """
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{error}{_kept(out)}") from error
    except (MemoryError, RuntimeError) as error:
        if type(error).__module__ in COMPILER:
            cause = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            raise TrainingError(
                f"trainer.compile=true needs a C++ compiler and a model that it can compile ({cause}): "
                f"install one, or say trainer.compile=false{_kept(out)}"
            ) from error
        ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not ran_out and not any(said in str(error) for said in CPU_MEMORY):
            raise
        raise TrainingError(
            f"out of memory: lower trainer.batch_size ({batch_size}; trainer.accumulate makes up for it) "
            f"or trainer.sequence_length{_kept(out)}"
        ) from error


def _kept(out: Path) -> str:
    if (out / "lightning" / "best.ckpt").exists():
        return f"; the best epoch so far is kept: coadtr export run={out}"
    if (out / "lightning" / "last.ckpt").exists():
        return f"; the last whole epoch is kept: coadtr export run={out} which=last"
    return ""
