"""Tests of runs against each other, on the videos that both answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from coadtr.errors import DataError
from coadtr.evaluation.metrics.paired import paired_precision_test

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coadtr.reporting.runs import Run

__all__ = ["describe_pairs", "paired"]

_METRICS: Final = ("mAP", "mcAP", "accuracy")


def paired(runs: Sequence[Run], *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Test each run against the first, on the videos that both answered.

    Args:
        runs: The runs; one with other videos, labels, scored frames or classes than the first is left out.
        resamples: Resamples of the interval, and permutations of the test.
        seed: Seed of the draws.

    Returns:
        ``run``, ``against``, ``metric`` (mAP, mcAP, accuracy), ``difference`` (positive where the run is better than
        the first), ``low`` and ``high`` of its 95 % interval, ``p_value``, ``smallest_p`` that so many videos can give,
        ``videos``, ``resamples``, ``seed``.

    Source:
        `coadtr.evaluation.metrics.paired.paired_precision_test`.

    Example:
        >>> paired([]).empty
        True
    """
    rows = [row for run in runs[1:] for row in _against(run, runs[0], resamples=resamples, seed=seed)]
    columns = [
        "run",
        "against",
        "metric",
        "difference",
        "low",
        "high",
        "p_value",
        "smallest_p",
        "videos",
        "resamples",
        "seed",
    ]
    return pd.DataFrame(rows, columns=columns)


def _against(run: Run, first: Run, *, resamples: int, seed: int) -> Iterator[tuple[Any, ...]]:
    special = ("class_names", "background", "ignored")
    if [run.report[key] for key in special] != [first.report[key] for key in special]:
        return
    names = run.scores.class_names
    background, ignored = (None if run.report[role] is None else names.index(run.report[role]) for role in special[1:])
    try:
        found = paired_precision_test(
            run.scores.videos,
            first.scores.videos,
            class_names=names,
            background=background,
            ignored=ignored,
            resamples=resamples,
            seed=seed,
        )
    except DataError:  # not the same test
        return
    for metric in _METRICS:
        value = getattr(found, metric)
        if value is not None:
            low, high = value.interval or (float("nan"), float("nan"))
            p_value = float("nan") if value.p_value is None else value.p_value
            told = (found.smallest_p, found.videos, resamples, seed)
            yield run.name, first.name, metric, value.difference, low, high, p_value, *told


def describe_pairs(tests: pd.DataFrame) -> pd.DataFrame:
    """Write the result of `paired` as text: percentage points to one decimal, p-values to three.

    Example:
        >>> describe_pairs(paired([])).columns.tolist()
        ['runs', 'metric', 'difference', 'p']
    """
    rows = []
    for row in tests.to_dict("records"):
        ends = "" if pd.isna(row["low"]) else f" [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        p_value = "-" if pd.isna(row["p_value"]) else f"{row['p_value']:.3f}"
        if row["smallest_p"] > 0.05 and p_value != "-":
            p_value += f", at least {row['smallest_p']:.2g} with {row['videos']} videos"
        rows.append(
            (f"{row['run']} - {row['against']}", row["metric"], f"{100 * row['difference']:+.1f}{ends}", p_value)
        )
    return pd.DataFrame(rows, columns=["runs", "metric", "difference", "p"])
