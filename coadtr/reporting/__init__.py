"""Reports: find replayed runs, compare them, and write a page, figures and tables of them.

The page and the figures need the extra ``report`` (Altair, vl-convert, Jinja2). Names resolve on first use (PEP 562),
so that what needs none of these works without them.

Example:
    >>> from coadtr.reporting import differences
    >>> differences([])
    []
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coadtr.reporting.export import write_report_folder
    from coadtr.reporting.page import render_page
    from coadtr.reporting.pairs import paired
    from coadtr.reporting.runs import Run, check_comparable, differences, find_runs
    from coadtr.reporting.tables import headline, per_class, render_comparison

__all__ = [
    "Run",
    "check_comparable",
    "differences",
    "find_runs",
    "headline",
    "paired",
    "per_class",
    "render_comparison",
    "render_page",
    "write_report_folder",
]

_HOME = {
    "Run": "runs",
    "check_comparable": "runs",
    "differences": "runs",
    "find_runs": "runs",
    "headline": "tables",
    "paired": "pairs",
    "per_class": "tables",
    "render_comparison": "tables",
    "render_page": "page",
    "write_report_folder": "export",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"coadtr.reporting.{_HOME[name]}"), name)
    raise AttributeError(f"module 'coadtr.reporting' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
