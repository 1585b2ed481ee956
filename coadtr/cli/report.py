"""``coadtr report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, names, one_of, plain, require, text, whether
from coadtr.reporting import Run, check_comparable, differences, find_runs, render_comparison, write_report_folder
from coadtr.reporting.export import FORMATS, check_extra, check_target
from coadtr.reporting.runs import common_folder
from coadtr.reporting.tables import paired_of, report_tables

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Compare runs: print the table, write the page, the figures and the tables."""
    require(cfg, "runs")
    settings = plain(cfg)
    mixed, png, title = whether(settings, "mixed"), whether(settings, "png"), text(settings, "title")
    formats = tuple(one_of(FORMATS, name, "formats") for name in names(settings, "formats") or [])
    out = None if settings["out"] is None else a_path(settings, "out")
    check_extra()
    runs = find_runs(_paths(settings))
    if not mixed:
        check_comparable(runs)
    out = default_out(runs) if out is None else out
    check_target(out)  # before the minutes that many runs may take
    with Console(stderr=True).status("reading scores") as status:
        tables = report_tables(runs)
        page = write_report_folder(
            runs,
            out,
            title=title or f"Report: {', '.join(run.name for run in runs)}",
            notes=[f"These runs differ in {difference}" for difference in differences(runs)],
            tables=tables,
            png=png,
            formats=formats,
            progress=lambda what: status.update(f"writing {what}"),
        )
    console = Console()
    console.print(render_comparison(runs, paired_of(tables)))
    for difference in differences(runs):
        console.print(f"These runs differ in {difference}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"written to {page}", soft_wrap=True, highlight=False, markup=False)


def default_out(runs: Sequence[Run]) -> Path:
    """Name the folder of a report: in the run if it is one, else in the folder that all are in."""
    return (runs[0].folder if len(runs) == 1 else common_folder([run.folder for run in runs])) / "report"


def _paths(settings: dict[str, Any]) -> list[Path]:
    given = settings["runs"]
    return [a_path({"runs": path}, "runs") for path in (given if isinstance(given, list) else [given])]
