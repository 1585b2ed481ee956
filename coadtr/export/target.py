"""Where an export goes, and in what precision: checked before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["require_target"]


def require_target(path: Path, precision: str, precisions: Sequence[str], *, kind: str, overwrite: bool) -> None:
    """Refuse a precision that a kind of file does not take, and a file that is there already.

    Args:
        path: The file.
        precision: What was asked for.
        precisions: What such a file takes.
        kind: Such a file, in words.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        ConfigError: If one does not hold.
    """
    if precision not in precisions:
        raise ConfigError(f"precision={precision!r}: {kind} takes one of {', '.join(precisions)}")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there already: choose another out, or give overwrite=true")
