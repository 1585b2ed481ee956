"""From the scores of all videos to the numbers of a report: replay, training and tests come through here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.data import VideoScores
from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.labels import check_classes, check_labels
from coadtr.evaluation.metrics import accuracy, mean_average_precision, per_frame_average_precision
from coadtr.evaluation.protocols import FrameCounts, count_scored, find_protocol, scored_frames
from coadtr.scoring import probabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from coadtr.evaluation.answers import VideoAnswers
    from coadtr.evaluation.protocols import ScoringProtocol
    from coadtr.scoring import Head

__all__ = ["evaluate_answers", "evaluate_scores", "score_answers"]


def score_answers(
    videos: Iterable[VideoAnswers],
    *,
    ignored: int | None = None,
    protocol: str | ScoringProtocol = "all",
    window: int,
    head: Head = "softmax",
) -> Iterator[VideoScores]:
    """Turn the logits of each video into scores, and mark the frames that the protocol scores.

    Args:
        videos: Answers and labels, one entry per video.
        ignored: Index of the class that is never scored, or None if there is none.
        protocol: Which frames are scored.
        window: Frames N that one answer attends to (the protocol may leave out the first N-1).
        head: How logits become scores: ``"softmax"``, or ``"sigmoid"`` for multi-label models.

    Yields:
        What a score file holds of each video.

    Raises:
        ConfigError: The protocol, the head or ``ignored`` is unknown.

    Example:
        >>> from coadtr.evaluation import VideoAnswers
        >>> answers = VideoAnswers("v", np.zeros((2, 2)), np.array([0, 1]))
        >>> [video.scores.tolist() for video in score_answers([answers], window=1)]
        [[[0.5, 0.5], [0.5, 0.5]]]
    """
    protocol = find_protocol(protocol)
    for video in videos:
        _check_labels(video.name, video.labels, video.logits.shape[1])
        yield VideoScores(
            video.name,
            video.probabilities(ignored, head=head),
            video.labels,
            scored_frames(protocol, video.labels, window=window, ignored=ignored),
            video.rate_hz,
            None if video.ahead is None else probabilities(video.ahead, ignored, head=head),
        )


def evaluate_answers(
    videos: Iterable[VideoAnswers],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    protocol: str | ScoringProtocol = "all",
    window: int,
    head: Head = "softmax",
) -> dict[str, Any]:
    """Compute the accuracy part of a report from the answers to all videos.

    `score_answers`, then `evaluate_scores`; see there for the arguments and for what comes back.

    Raises:
        ConfigError: The protocol is unknown, or the classes do not fit.
        ShapeError: A video has another number of classes.
        DataError: No frame is scored, no action occurs, or a video comes twice.

    Example:
        >>> from coadtr.evaluation import VideoAnswers
        >>> video = VideoAnswers("v", np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 1]))
        >>> result = evaluate_answers([video], class_names=["none", "run"], background=0, window=1)
        >>> result["mAP"], result["accuracy"], result["frames_scored"]
        (1.0, 1.0, 2)
    """
    check_classes(class_names, background=background, ignored=ignored)
    return evaluate_scores(
        score_answers(
            _of_width(videos, len(class_names)), ignored=ignored, protocol=protocol, window=window, head=head
        ),
        class_names=class_names,
        background=background,
        ignored=ignored,
        protocol=protocol,
        window=window,
    )


def evaluate_scores(
    videos: Iterable[VideoScores],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    protocol: str | ScoringProtocol = "all",
    window: int,
) -> dict[str, Any]:
    """Compute the accuracy part of a report from the scores of all videos.

    The videos may be an iterator: only scores and labels are kept, and only those of the scored frames.

    Args:
        videos: Scores, labels and scored frames, one entry per video, such as a score file holds.
        class_names: The C names, each once.
        background: Index of the background class; it has no AP but counts for accuracy. None if there is
            none.
        ignored: Index of the class that is never scored, or None if there is none.
        protocol: By which the scored frames were chosen.
        window: Frames N that one answer attends to, for the report.

    Returns:
        JSON-ready values: ``mAP``, ``mcAP`` (over classes that occur, in [0, 1]), ``per_class_AP``,
        ``per_class_cAP``, ``classes_absent`` (named), ``accuracy``, ``mean_per_video_accuracy`` (over videos
        with a scored frame; None where no scored frame has a label), ``class_names``, ``background``,
        ``ignored`` (named), ``protocol``, ``videos``, ``videos_scored``, ``frames_total`` = ``frames_scored``
        + ``frames_ignored`` + ``frames_outside``.

    Raises:
        ConfigError: The protocol is unknown, or the classes do not fit.
        ShapeError: A video has another number of classes.
        DataError: No frame is scored, no action occurs, or a video comes twice.

    Example:
        >>> video = VideoScores("v", np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), np.array([True, True]))
        >>> evaluate_scores([video], class_names=["none", "run"], background=0, window=1)["mAP"]
        1.0
    """
    protocol = find_protocol(protocol)
    check_classes(class_names, background=background, ignored=ignored)
    counts = FrameCounts()
    names: set[str] = set()
    labels: list[NDArray[Any]] = []
    scores: list[NDArray[np.float64]] = []
    for video in videos:
        if video.name in names:
            raise DataError(f"video {video.name!r} comes twice; give every video once")
        names.add(video.name)
        _check_scores(video, len(class_names))
        counts += count_scored(video.labels, video.scored, ignored=ignored)
        if video.scored.any():
            labels.append(video.labels[video.scored])
            scores.append(video.scores[video.scored])
    if counts.scored == 0:
        raise DataError(
            f"protocol {protocol.name!r} scores none of {counts.total} frames in {len(names)} videos; "
            "check the split, or use protocol 'all'"
        )
    per_video = [accuracy(*pair, ignored=ignored) for pair in zip(labels, scores, strict=True)]
    all_labels, all_scores = _join(labels), np.concatenate(scores)
    return {
        **_precision(all_labels, all_scores, class_names, background=background, ignored=ignored),
        "accuracy": _number(accuracy(all_labels, all_scores, ignored=ignored)),
        "mean_per_video_accuracy": _mean(per_video),
        "class_names": list(class_names),
        "background": None if background is None else class_names[background],
        "ignored": None if ignored is None else class_names[ignored],
        "protocol": {
            "name": protocol.name,
            "version": protocol.version,
            "window": window,
            "description": protocol.description,
        },
        "videos": len(names),
        "videos_scored": len(labels),
        "frames_total": counts.total,
        "frames_scored": counts.scored,
        "frames_ignored": counts.ignored,
        "frames_outside": counts.outside,
    }


def _of_width(videos: Iterable[VideoAnswers], num_classes: int) -> Iterator[VideoAnswers]:
    for video in videos:
        if video.logits.shape[1] != num_classes:
            raise ShapeError(
                f"video {video.name!r}: {video.logits.shape[1]} logits a frame but {num_classes} class names; "
                "give the names that the model was trained with"
            )
        yield video


def _check_labels(name: str, labels: NDArray[Any], num_classes: int) -> None:
    try:
        check_labels(labels, num_classes)
    except (DataError, ShapeError) as error:
        raise type(error)(f"video {name!r}: {error}") from error


def _check_scores(video: VideoScores, num_classes: int) -> None:
    if video.scores.ndim != 2 or video.scores.shape[1] != num_classes:
        raise ShapeError(
            f"video {video.name!r}: scores {video.scores.shape} but {num_classes} class names; "
            "give the names that the model was trained with"
        )
    _check_labels(video.name, video.labels, num_classes)


def _join(labels: list[NDArray[Any]]) -> NDArray[Any]:
    if len({part.ndim for part in labels}) > 1:
        raise DataError("some videos have class indices (T,) and some multi-hot labels (T, C); use one form")
    return np.concatenate(labels)


def _precision(
    labels: NDArray[Any],
    scores: NDArray[np.float64],
    class_names: Sequence[str],
    *,
    background: int | None,
    ignored: int | None,
) -> dict[str, Any]:
    plain = per_frame_average_precision(labels, scores, class_names=class_names, background=background, ignored=ignored)
    calibrated = per_frame_average_precision(
        labels, scores, class_names=class_names, background=background, ignored=ignored, calibrated=True
    )
    actions = [name for index, name in enumerate(class_names) if index not in {background, ignored}]
    if not actions:
        raise ConfigError(f"no action among the classes {list(class_names)}; background and ignored class have no AP")
    return {
        "mAP": mean_average_precision(plain),
        "mcAP": mean_average_precision(calibrated),
        "per_class_AP": plain,
        "per_class_cAP": calibrated,
        "classes_absent": [name for name in actions if name not in plain],
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None
