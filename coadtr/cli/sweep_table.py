"""The results of a sweep as a table: one row a job, and the mean and spread over seeds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

__all__ = ["differing", "job_table", "mean_table", "show_tables", "write_tables"]

SCORE, SEED = "validation_mAP", "seed"
STATISTICS = {"runs": "count", "mean": "mean", "deviation": "std", "least": "min", "most": "max"}
RESULTS = ("state", SCORE, "epoch", "seconds", "checkpoint", "error")


def differing(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the settings that have not one value in all jobs, in the order of the command.

    Example:
        >>> differing([{"overrides": {"seed": "0", "out": "a"}}, {"overrides": {"seed": "1", "out": "a"}}])
        ['seed']
    """
    names = dict.fromkeys(name for record in records for name in record["overrides"])
    return [name for name in names if len({record["overrides"].get(name) for record in records}) > 1]


def job_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Put the jobs of a sweep into a table.

    Args:
        records: What the jobs wrote.

    Returns:
        One row a job: the settings that differ, ``state`` (``finished``, ``failed``, ``interrupted``),
        ``validation_mAP``, ``epoch`` from 0, ``seconds`` of the call that finished the run, ``checkpoint``, ``error``.
    """
    keys = differing(records)
    rows = []
    for record in records:
        # A job that is running when the sweep has ended was killed.
        state = "interrupted" if record["state"] == "running" else record["state"]
        given = {key: record["overrides"].get(key) for key in keys}
        rows.append({**given, **{name: record.get(name) for name in RESULTS}, "state": state})
    return pd.DataFrame(rows, columns=[*keys, *RESULTS]).astype({"epoch": "Int64", SCORE: float, "seconds": float})


def mean_table(jobs: pd.DataFrame) -> pd.DataFrame:
    """Average the finished jobs that differ in nothing but the seed.

    Args:
        jobs: The result of :func:`job_table`.

    Returns:
        One row a choice of the other settings: ``runs``, ``mean``, ``deviation`` (with n - 1 in the denominator),
        ``least`` and ``most`` of the validation mAP. No row if the seed is not among the settings that differ.

    Example:
        >>> jobs = [{"overrides": {"seed": str(k)}, "state": "finished", "validation_mAP": k / 4} for k in (1, 2)]
        >>> mean_table(job_table(jobs)).round(4).to_dict("records")
        [{'runs': 2, 'mean': 0.375, 'deviation': 0.1768, 'least': 0.25, 'most': 0.5}]
    """
    keys = [name for name in jobs.columns if name not in RESULTS and name != SEED]
    done = jobs[jobs["state"] == "finished"]
    if SEED not in jobs.columns or done.empty:
        return pd.DataFrame(columns=[*keys, *STATISTICS])
    groups = done.groupby(keys, sort=False, dropna=False) if keys else done.groupby(lambda _: 0)
    table = pd.DataFrame({name: groups[SCORE].agg(how) for name, how in STATISTICS.items()})
    return table.reset_index(drop=not keys)


def write_tables(folder: Path, jobs: pd.DataFrame, means: pd.DataFrame) -> None:
    """Write ``results.csv`` (the jobs), ``means.csv`` (over seeds, if there are some) and ``results.json`` (both)."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs.to_csv(folder / "results.csv", index=False)
    if not means.empty:
        means.to_csv(folder / "means.csv", index=False)
    tables = {
        name: json.loads(table.to_json(orient="records", double_precision=15))
        for name, table in (("jobs", jobs), ("means", means))
    }
    (folder / "results.json").write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


def show_tables(folder: Path, jobs: pd.DataFrame, means: pd.DataFrame) -> None:
    """Print both tables, the best choice, and where they lie."""
    # A file takes lines of any length.
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 250)
    console.print(_printed(jobs.drop(columns="error"), "Jobs"))
    if not means.empty:
        console.print(_printed(means, "Validation mAP over seeds"))
    table, score = (jobs, SCORE) if means.empty else (means, "mean")
    if table[score].notna().any():
        best = table.iloc[int(table[score].argmax())]
        chosen = " ".join(f"{name}={best[name]}" for name in table.columns if name not in (*RESULTS, *STATISTICS))
        console.print(f"best           {chosen or 'all'}: validation mAP {best[score]:.4f}")
    console.print(f"results        {folder / 'results.csv'}")


def _printed(data: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in data.columns:
        numbers = data[name].dtype.kind in "fi"
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in data.itertuples(index=False):
        table.add_row(*_cells(data.columns, row))
    return table


def _cells(names: Iterable[str], row: Iterable[Any]) -> list[str]:
    places = {"seconds": 1}
    return [
        "" if pd.isna(value) else f"{value:.{places.get(name, 4)}f}" if isinstance(value, float) else str(value)
        for name, value in zip(names, row, strict=True)
    ]
