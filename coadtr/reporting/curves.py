"""The numbers behind the charts of one run, as tables. Nothing is drawn here.

Frames that the protocol does not score, and frames labelled with the ignored class, are in none of them.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from coadtr.evaluation import accuracy, mean_average_precision, per_frame_average_precision
from coadtr.evaluation.labels import frames_of_class

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from coadtr.data import VideoScores
    from coadtr.reporting.runs import Run

__all__ = [
    "anticipation",
    "calibration",
    "clip_shares",
    "clips",
    "confusion",
    "portions",
    "precision_recall",
    "starts",
    "training",
    "video_table",
    "warmup",
]

_POINTS: Final = 200


def _once(compute: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """Compute a table once for a run: charts, tables and page all ask for it, and it takes seconds."""

    @wraps(compute)
    def found(run: Run, **options: Any) -> pd.DataFrame:
        # Beside the fields of the run, as `functools.cached_property` does it, and so gone with the run.
        kept: dict[Any, pd.DataFrame] = vars(run).setdefault("_tables", {})
        key = (compute.__name__, *sorted(options.items()))
        if key not in kept:
            kept[key] = compute(run, **options)
        return kept[key].copy()

    return found


@_once
def precision_recall(run: Run, *, most: int = _POINTS) -> pd.DataFrame:
    """Compute the precision-recall curve of each action over all scored frames.

    A point is a distinct score, from the highest down: ``recall = TP / P`` and ``precision = TP / (TP + FP)`` of the
    frames that score at least as high. The area under these steps is the AP of the report; the point (0, 1) that some
    draw before the first is not among them. Of a curve with more than ``most`` points, those with the highest and the
    lowest precision in each of ``most / 2 - 1`` equal ranges of recall are kept, and the first and last: all corners
    that a chart of that width can show. What is kept is exact.

    Args:
        run: The run.
        most: How many points a class may have, at least 4.

    Returns:
        ``class``, ``recall``, ``precision``, ``threshold``; classes in the order of the run, recall ascending.
        Background, ignored class and classes that no scored frame shows have no rows.

    Example:
        >>> from types import SimpleNamespace
        >>> from coadtr.data import ScoreFile, VideoScores
        >>> frames = (np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]), np.ones(3, dtype=bool))
        >>> scores = ScoreFile(("none", "run"), {}, (VideoScores("v", *frames),))
        >>> run = SimpleNamespace(scores=scores, report={"background": "none", "ignored": None})
        >>> precision_recall(run)[["recall", "precision"]].to_numpy().tolist()
        [[0.5, 1.0], [1.0, 1.0], [1.0, 0.6666666666666666]]
    """
    labels, scores = _joined(run)
    tables = []
    for index, name in _actions(run):
        positives = frames_of_class(labels, index)
        if not positives.any():
            continue
        recall, precision, threshold = _points(positives, scores[:, index])
        kept = thinned(recall, precision, most=most)
        columns = {"recall": recall[kept], "precision": precision[kept], "threshold": threshold[kept]}
        tables.append(pd.DataFrame({"class": name, **columns}))
    if not tables:
        return pd.DataFrame(columns=["class", "recall", "precision", "threshold"])
    return pd.concat(tables, ignore_index=True)


def _points(positives: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[NDArray[Any], ...]:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # As in the metric: equal scores are one threshold, at the last frame of the run of them.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    true = np.cumsum(positives[order])[ends]
    return true / true[-1], true / (ends + 1), ranked[ends]


def thinned(recall: NDArray[Any], precision: NDArray[Any], *, most: int) -> NDArray[np.intp]:
    """Choose the points of a curve to keep, see `precision_recall`.

    Args:
        recall: Recall of each point, ascending, from 0 to 1.
        precision: Precision of each point.
        most: How many to keep, at least 4; all are kept if they are no more.

    Returns:
        Indices, ascending.

    Example:
        >>> thinned(np.linspace(0.01, 1, 100), np.linspace(1, 0.5, 100), most=6).tolist()
        [0, 48, 49, 99]
    """
    if recall.size <= most:
        return np.arange(recall.size)
    ranges = most // 2 - 1
    place = np.minimum((recall * ranges).astype(np.intp), ranges - 1)
    # Recall ascends, so each range is a run of neighbours: no sorting.
    first = np.flatnonzero(np.diff(place, prepend=-1))
    lengths = np.diff(first, append=place.size)
    kept = [np.array([0, recall.size - 1])]
    for extreme in (np.minimum, np.maximum):
        at = np.flatnonzero(precision == np.repeat(extreme.reduceat(precision, first), lengths))
        kept.append(at[np.flatnonzero(np.diff(place[at], prepend=-1))])
    return np.unique(np.concatenate(kept))


@_once
def confusion(run: Run) -> pd.DataFrame:
    """Count how the scored frames of each class were answered.

    The answer to a frame is its highest score; of equal ones that of the lowest class, and never the ignored class. A
    multi-hot frame that is answered with a class that it shows counts once, as that class; otherwise in the row of
    each class that it shows. Frames that show no class are left out.

    Args:
        run: The run.

    Returns:
        ``true``, ``answered``, ``frames``, ``share``: all pairs of a class that occurs with every class that can be
        answered, background too. The shares of a true class add up to 1.

    Example:
        >>> from types import SimpleNamespace
        >>> from coadtr.data import ScoreFile, VideoScores
        >>> frames = (np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]), np.ones(3, dtype=bool))
        >>> scores = ScoreFile(("none", "run"), {}, (VideoScores("v", *frames),))
        >>> run = SimpleNamespace(scores=scores, report={"background": "none", "ignored": None})
        >>> confusion(run)[["frames", "share"]].to_numpy().tolist()
        [[1.0, 1.0], [0.0, 0.0], [1.0, 0.5], [1.0, 0.5]]
    """
    labels, scores = _joined(run)
    names, ignored = run.scores.class_names, _ignored(run)
    if ignored is not None:
        scores[:, ignored] = -np.inf
    counts = _count_pairs(labels, scores)
    answered = [index for index in range(len(names)) if index != ignored]
    rows = [
        (names[true], names[answer], int(counts[true, answer]), counts[true, answer] / counts[true].sum())
        for true in np.flatnonzero(counts.any(axis=1))
        for answer in answered
    ]
    return pd.DataFrame(rows, columns=["true", "answered", "frames", "share"])


def _count_pairs(labels: NDArray[Any], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    counts = np.zeros((scores.shape[1], scores.shape[1]), dtype=np.int64)
    if labels.shape[0] == 0:
        return counts
    answers = scores.argmax(axis=1)
    if labels.ndim == 1:
        np.add.at(counts, (labels, answers), 1)
        return counts
    right = labels[np.arange(answers.size), answers].astype(bool)
    np.add.at(counts, (answers[right], answers[right]), 1)
    frames, shown = np.nonzero(labels[~right])
    np.add.at(counts, (shown, answers[~right][frames]), 1)
    return counts


@_once
def video_table(run: Run) -> pd.DataFrame:
    """Score each video on its own.

    Args:
        run: The run.

    Returns:
        ``video``, ``frames`` and ``scored`` (frames in all, and those scored), ``accuracy``, ``mAP`` over the actions
        that the video shows. Worst mAP first, of equal ones the worst accuracy; a video without a scored frame or
        without an action has NaN there, and comes last.

    Example:
        >>> from types import SimpleNamespace
        >>> from coadtr.data import ScoreFile, VideoScores
        >>> frames = (np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]), np.ones(3, dtype=bool))
        >>> scores = ScoreFile(("none", "run"), {}, (VideoScores("v", *frames),))
        >>> run = SimpleNamespace(scores=scores, report={"background": "none", "ignored": None})
        >>> video_table(run).to_dict("records")[0]["mAP"]
        1.0
    """
    names, ignored = run.scores.class_names, _ignored(run)
    background = _index(run, "background")
    rows = []
    for video in run.scores.videos:
        labels, scores = _scored(video, ignored)
        right = accuracy(labels, scores, ignored=ignored) if len(labels) else float("nan")
        values = per_frame_average_precision(labels, scores, class_names=names, background=background, ignored=ignored)
        mean = mean_average_precision(values) if values else float("nan")
        rows.append((video.name, len(video.scored), len(labels), right, mean))
    table = pd.DataFrame(rows, columns=["video", "frames", "scored", "accuracy", "mAP"])
    return table.sort_values(["mAP", "accuracy"], kind="stable", ignore_index=True)


def warmup(run: Run) -> pd.DataFrame:
    """Return mAP by frames since the start of the video: ``frames_since_start``, ``mAP``, ``frames``.

    A bin is named by its first frame. Empty where the report has none; NaN where a bin shows no action.

    Example:
        >>> from types import SimpleNamespace
        >>> part = {"edges": [0, 8], "mAP": [0.5, 0.7], "frames": [8, 20]}
        >>> warmup(SimpleNamespace(report={"warmup": part}))["mAP"].tolist()
        [0.5, 0.7]
    """
    part = run.report["warmup"] or {"edges": [], "mAP": [], "frames": []}
    # Some write the end of the last bin too.
    edges = part["edges"][: len(part["mAP"])]
    return _numbers({"frames_since_start": edges, "mAP": part["mAP"], "frames": part["frames"]})


def portions(run: Run) -> pd.DataFrame:
    """Return mAP by the portion of the action seen: ``portion`` (end of the decile, 0.1 to 1), ``mAP``, ``mcAP``.

    Example:
        >>> from types import SimpleNamespace
        >>> portions(SimpleNamespace(report={"portions": {"mAP": [0.5, 0.7], "mcAP": [0.8, 0.9]}}))["portion"].tolist()
        [0.5, 1.0]
    """
    part = run.report["portions"] or {"mAP": [], "mcAP": []}
    count = len(part["mAP"])
    ends = [(index + 1) / count for index in range(count)]
    return _numbers({"portion": ends, "mAP": part["mAP"], "mcAP": part["mcAP"]})


def starts(run: Run) -> pd.DataFrame:
    """Return point-level mAP of action starts by the offset that is allowed: ``offset_s``, ``mAP``.

    Example:
        >>> from types import SimpleNamespace
        >>> starts(SimpleNamespace(report={"starts": None})).columns.tolist()
        ['offset_s', 'mAP']
    """
    part = run.report["starts"] or {"offsets_s": [], "mAP": []}
    return _numbers({"offset_s": part["offsets_s"], "mAP": part["mAP"]})


def clips(run: Run) -> pd.DataFrame:
    """Return accuracy over recordings by the time listened: ``seconds``, ``accuracy``, ``going_on``, ``recordings``.

    ``accuracy`` is over all recordings, those that ended with their last answer; ``going_on`` over those that last so
    long, and ``recordings`` how many these are.

    Example:
        >>> from types import SimpleNamespace
        >>> clips(SimpleNamespace(report={"clips": None})).columns.tolist()
        ['seconds', 'accuracy', 'going_on', 'recordings']
    """
    part = (run.report.get("clips") or {}).get("by_seconds") or {}
    names = {"seconds": "seconds", "accuracy": "accuracy_all", "going_on": "accuracy_going_on"}
    columns = {name: part.get(key, []) for name, key in (names | {"recordings": "recordings"}).items()}
    return _numbers(columns)


def clip_shares(run: Run) -> pd.DataFrame:
    """Return accuracy over recordings by the share of them listened to: ``share`` from 0 to 1, ``accuracy``.

    Example:
        >>> from types import SimpleNamespace
        >>> part = {"by_share": {"share": [0.5, 1.0], "accuracy": [0.25, 1.0]}}
        >>> clip_shares(SimpleNamespace(report={"clips": part}))["accuracy"].tolist()
        [0.25, 1.0]
    """
    part = (run.report.get("clips") or {}).get("by_share") or {}
    return _numbers({name: part.get(name, []) for name in ("share", "accuracy")})


def anticipation(run: Run) -> pd.DataFrame:
    """Return mAP of the answers for a time ahead: ``horizon_s``, ``mAP``, ``mcAP``.

    Example:
        >>> from types import SimpleNamespace
        >>> anticipation(SimpleNamespace(report={"anticipation": None})).empty
        True
    """
    part = run.report["anticipation"] or {"horizons_s": [], "mAP": [], "mcAP": []}
    return _numbers({"horizon_s": part["horizons_s"], "mAP": part["mAP"], "mcAP": part["mcAP"]})


def calibration(run: Run) -> pd.DataFrame:
    """Return the bins of confidence: ``low``, ``high``, ``confidence``, ``accuracy``, ``frames``; NaN in empty bins.

    Example:
        >>> from types import SimpleNamespace
        >>> calibration(SimpleNamespace(report={"calibration": None})).columns.tolist()
        ['low', 'high', 'confidence', 'accuracy', 'frames']
    """
    bins = (run.report["calibration"] or {"bins": []})["bins"]
    return _numbers({name: [one[name] for one in bins] for name in ("low", "high", "confidence", "accuracy", "frames")})


def training(run: Run) -> pd.DataFrame:
    """Return the training curves in long form: ``epoch``, ``measure`` as logged, ``value``; empty if there are none.

    Example:
        >>> from types import SimpleNamespace
        >>> curves = pd.DataFrame({"epoch": [0, 1], "step": [9, 19], "val_mAP": [0.5, None]})
        >>> training(SimpleNamespace(curves=curves)).to_dict("list")
        {'epoch': [0], 'measure': ['val_mAP'], 'value': [0.5]}
    """
    if run.curves is None:
        return pd.DataFrame(columns=["epoch", "measure", "value"])
    long = run.curves.drop(columns="step", errors="ignore").melt("epoch", var_name="measure")
    return long.dropna(subset="value").reset_index(drop=True)


def _joined(run: Run) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return labels and scores of the scored frames of all videos; the scores are a copy."""
    parts = [_scored(video, _ignored(run)) for video in run.scores.videos]
    return np.concatenate([labels for labels, _ in parts]), np.concatenate([scores for _, scores in parts])


def _scored(video: VideoScores, ignored: int | None) -> tuple[NDArray[Any], NDArray[np.float64]]:
    kept = video.scored if ignored is None else video.scored & ~frames_of_class(video.labels, ignored)
    return video.labels[kept], video.scores[kept]


def _actions(run: Run) -> Sequence[tuple[int, str]]:
    special = {run.report["background"], run.report["ignored"]}
    return [(index, name) for index, name in enumerate(run.scores.class_names) if name not in special]


def _ignored(run: Run) -> int | None:
    return _index(run, "ignored")


def _index(run: Run, role: str) -> int | None:
    name = run.report[role]
    return None if name is None else run.scores.class_names.index(name)


def _numbers(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """Make a table of lists of one length, in which null is NaN; what one of them has too many is cut."""
    length = min(len(values) for values in columns.values())
    return pd.DataFrame({name: pd.Series(values[:length], dtype="float64") for name, values in columns.items()})
