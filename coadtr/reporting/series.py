"""The numbers behind each chart: one tidy table for all runs, which the page also shows as its text alternative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

from coadtr.reporting import curves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coadtr.reporting.runs import Run

__all__ = [
    "anticipation",
    "calibration",
    "class_order",
    "clip_shares",
    "clips",
    "confusion",
    "cost",
    "macs_by_block",
    "per_class",
    "portions",
    "precision_recall",
    "starts",
    "training",
    "warmup",
]

FEW_FRAMES: Final = 10  # an accuracy over fewer says little
_MEASURES: Final = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_mAP": "validation mAP",
    "val_clip_accuracy": "validation accuracy at the end",
}


def class_order(runs: Sequence[Run]) -> list[str]:
    """Return the class names of all runs, each once, in the order of the first run that has them.

    Example:
        >>> class_order([])
        []
    """
    return list(dict.fromkeys(name for run in runs for name in run.scores.class_names))


def per_class(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, class, AP, low, high, cAP``, one row a run and class that occurs, best of the first run first.

    ``low`` and ``high`` bound the interval of the AP; they are missing where it cannot be had.

    Example:
        >>> list(per_class([]))
        ['run', 'class', 'AP', 'low', 'high', 'cAP']
    """
    rows = []
    for run in runs:
        ends = (run.report.get("intervals") or {}).get("per_class_AP") or {}
        calibrated = run.report.get("per_class_cAP", {})
        for name, value in sorted(run.report["per_class_AP"].items(), key=lambda item: -item[1]):
            rows.append((run.name, name, value, *(ends.get(name) or (None, None)), calibrated.get(name)))
    table = pd.DataFrame(rows, columns=["run", "class", "AP", "low", "high", "cAP"])
    return table.astype(dict.fromkeys(("AP", "low", "high", "cAP"), "float64"))


def precision_recall(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, class, recall, precision``, thinned out to what a chart can show.

    Example:
        >>> list(precision_recall([]))
        ['run', 'class', 'recall', 'precision']
    """
    return _stack(runs, curves.precision_recall, ["class", "recall", "precision"])


def confusion(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, true, answered, frames, share``: how the scored frames of each class were answered.

    Example:
        >>> list(confusion([]))
        ['run', 'true', 'answered', 'frames', 'share']
    """
    return _stack(runs, curves.confusion, ["true", "answered", "frames", "share"])


def warmup(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, frames_since_start, mAP, frames, classes`` where frames of that age show an action.

    A band of ages is named by its ends, such as ``4-7``, or ``1,024 on``; bands come youngest first. ``classes`` is how
    many classes occur in the band, missing where the report does not say. A band with fewer than half of the classes
    that occur in the run is left out.

    Example:
        >>> list(warmup([]))
        ['run', 'frames_since_start', 'mAP', 'frames', 'classes']
    """
    columns = ["frames_since_start", "mAP", "frames", "classes", "first"]
    table = _stack(runs, _bands, columns).sort_values("first", kind="stable")
    return table.dropna(subset=["mAP"]).drop(columns="first").reset_index(drop=True)


def _bands(run: Run) -> pd.DataFrame:
    table = curves.warmup(run)
    edges = run.report["warmup"]["edges"] if run.report["warmup"] else []
    names = [
        f"{first:,.0f} on" if after is None else f"{first:,.0f}" + (f"-{after - 1:,.0f}" if after - first > 1 else "")
        for first, after in zip(edges, [*edges[1:], None], strict=False)  # no edge: no band
    ]
    occurring = pd.Series((run.report["warmup"] or {}).get("classes") or [], dtype="float64").reindex(table.index)
    table = table.assign(first=table["frames_since_start"], frames_since_start=names[: len(table)], classes=occurring)
    return table[~(occurring < len(run.report["per_class_AP"]) / 2)]


def portions(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, portion, mAP, mcAP``; the portion is the end of the tenth in per cent, 10 to 100.

    Example:
        >>> list(portions([]))
        ['run', 'portion', 'mAP', 'mcAP']
    """
    table = _stack(runs, curves.portions, ["portion", "mAP", "mcAP"]).dropna(subset=["mAP"])
    return table.assign(portion=(100 * table["portion"]).round(6))


def starts(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, offset_s, mAP`` of action starts within an offset in seconds.

    Example:
        >>> list(starts([]))
        ['run', 'offset_s', 'mAP']
    """
    return _stack(runs, curves.starts, ["offset_s", "mAP"]).dropna(subset=["mAP"])


def clips(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, seconds, accuracy, going_on, recordings``: whole recordings by the time listened.

    ``accuracy`` is over all recordings, ``going_on`` over the ``recordings`` that last so long.

    Example:
        >>> list(clips([]))
        ['run', 'seconds', 'accuracy', 'going_on', 'recordings']
    """
    return _stack(runs, curves.clips, ["seconds", "accuracy", "going_on", "recordings"]).dropna(subset=["accuracy"])


def clip_shares(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, share, accuracy``: whole recordings by the per cent of them listened to.

    Example:
        >>> list(clip_shares([]))
        ['run', 'share', 'accuracy']
    """
    table = _stack(runs, curves.clip_shares, ["share", "accuracy"]).dropna(subset=["accuracy"])
    return table.assign(share=(100 * table["share"]).astype("float64").round(6))


def anticipation(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, horizon_s, mAP, mcAP`` of answers for a time ahead.

    Example:
        >>> list(anticipation([]))
        ['run', 'horizon_s', 'mAP', 'mcAP']
    """
    return _stack(runs, curves.anticipation, ["horizon_s", "mAP", "mcAP"]).dropna(subset=["mAP"])


def calibration(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, confidence, accuracy, frames`` of the bins that hold a frame.

    Example:
        >>> list(calibration([]))
        ['run', 'confidence', 'accuracy', 'frames']
    """
    table = _stack(runs, curves.calibration, ["confidence", "accuracy", "frames"])
    return table[table["frames"] > 0].dropna(subset=["confidence", "accuracy"])


def cost(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, mAP, low, high, MACs, latency_ms``; ``low`` and ``high`` bound the interval of the mAP.

    Example:
        >>> list(cost([]))
        ['run', 'mAP', 'low', 'high', 'MACs', 'latency_ms']
    """
    rows = []
    for run in runs:
        low, high = (run.report.get("intervals") or {}).get("mAP") or (None, None)
        latency = (run.report.get("step_latency_ms") or {}).get("p50")
        macs = run.report.get("macs_per_frame")
        rows.append((run.name, run.report["mAP"], low, high, macs, latency))
    return pd.DataFrame(rows, columns=["run", "mAP", "low", "high", "MACs", "latency_ms"])


def macs_by_block(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, block, MACs``: multiply-accumulates of a frame, as executed, in the order of the network.

    Example:
        >>> list(macs_by_block([]))
        ['run', 'block', 'MACs']
    """
    rows = [
        (run.name, block, value) for run in runs for block, value in (run.report.get("macs_by_block") or {}).items()
    ]
    # The deepest network has the blocks of the others in its order.
    deepest_first = sorted((run.report.get("macs_by_block") or {} for run in runs), key=len, reverse=True)
    place = {
        block: index for index, block in enumerate(dict.fromkeys(name for found in deepest_first for name in found))
    }
    return pd.DataFrame(sorted(rows, key=lambda row: place[row[1]]), columns=["run", "block", "MACs"])


def training(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``run, epoch, measure, value`` of the losses and the validation mAP.

    Example:
        >>> list(training([]))
        ['run', 'epoch', 'measure', 'value']
    """
    table = _stack(runs, curves.training, ["epoch", "measure", "value"])
    table = table[table["measure"].isin(list(_MEASURES))]
    order = table["measure"].map(list(_MEASURES).index).sort_values(kind="stable").index
    return table.loc[order].assign(measure=table["measure"].map(_MEASURES)).reset_index(drop=True)


def _stack(runs: Sequence[Run], read: Callable[[Run], pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return _joined([read(run).reindex(columns=columns).assign(run=run.name) for run in runs], ["run", *columns])


def _joined(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    full = [table for table in tables if len(table)]
    return pd.concat(full, ignore_index=True)[columns] if full else pd.DataFrame(columns=columns)
