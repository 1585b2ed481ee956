"""``coadtr data check``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from coadtr.cli.settings import a_path, plain, require
from coadtr.data.storage.verify import verify
from coadtr.errors import DataError

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Read a store whole, say what was verified, and list all that is wrong."""
    require(cfg, "path")
    found = verify(a_path(plain(cfg), "path"))
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{escape(found.path)}: read {found.videos:,} videos, {found.frames:,} frames, {found.bytes:,} bytes; "
        f"{found.checksums:,} checksums"
    )
    for problem in found.problems:
        console.print(f"[red]problem[/]: {escape(problem)}")
    if found.problems:
        count = "a problem" if len(found.problems) == 1 else f"{len(found.problems)} problems"
        raise DataError(f"{found.path}: has {count}, listed above: import or copy it again")
    console.print("no problems: header, shapes, labels and splits agree, checksums hold, all features are finite")
