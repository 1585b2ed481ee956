"""Scores of a video as a short text that the page unpacks when the video is picked.

A score p in [0, 1] is kept as round(65535 p): the error is at most 7.7e-6, far below a pixel. Scores change slowly, so
the differences from frame to frame are kept, class by class, all high bytes before all low bytes; that deflates to a
fraction. Labels (int16, or one byte a class if multi-hot) and a byte a frame for "is scored" follow. Little-endian.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEVELS", "pack_video", "script_json", "unpack_video"]

LEVELS: Final = 65535


def pack_video(scores: NDArray[Any], labels: NDArray[Any], scored: NDArray[np.bool_]) -> str:
    """Pack the scores and labels of one video: quantise, difference, deflate, base64.

    Args:
        scores: Probabilities ``(T, C)``.
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``.
        scored: Whether the protocol scores each frame ``(T,)``.

    Returns:
        Text of letters, digits, ``+``, ``/`` and ``=`` only: safe inside any element of a page.

    Raises:
        DataError: A score is not a number from 0 to 1.

    Example:
        >>> text = pack_video(np.array([[0.25, 0.75], [0.0, 1.0]]), np.array([1, 1]), np.array([True, True]))
        >>> unpack_video(text, frames=2, classes=2, multi_hot=False)[0].round(4).tolist()
        [[0.25, 0.75], [0.0, 1.0]]
    """
    scores = np.asarray(scores, dtype=np.float64)
    fit = (scores >= 0) & (scores <= 1 + 1e-9)
    if not fit.all():
        frame = int(np.flatnonzero(~fit.all(axis=1))[0])
        raise DataError(
            f"the scores of frame {frame} are not all from 0 to 1; report probabilities, as replay writes them"
        )
    levels = np.rint(scores.T * LEVELS).clip(0, LEVELS).astype(np.int64)
    changes = np.diff(levels, axis=1, prepend=0).astype("<u2")  # wraps round, as the sum does again
    planes = changes.reshape(-1, 1).view(np.uint8).T
    parts = [
        planes[1].tobytes(),
        planes[0].tobytes(),
        labels.astype("<i2" if labels.ndim == 1 else np.uint8).tobytes(),
        scored.astype(np.uint8).tobytes(),
    ]
    # A higher level takes five times as long for one per cent less.
    return base64.b64encode(zlib.compress(b"".join(parts), 6)).decode("ascii")


def unpack_video(
    text: str, *, frames: int, classes: int, multi_hot: bool
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.bool_]]:
    """Undo `pack_video`, as the page does it.

    Args:
        text: What `pack_video` returned.
        frames: Number of frames T.
        classes: Number of classes C.
        multi_hot: Whether the labels are multi-hot.

    Returns:
        Scores ``(T, C)`` in steps of 1/65535, labels, and scored frames.

    Raises:
        DataError: The text holds another number of bytes than such a video.

    Example:
        >>> text = pack_video(np.zeros((3, 1)), np.zeros((3, 1), dtype=int), np.ones(3, dtype=bool))
        >>> [part.shape for part in unpack_video(text, frames=3, classes=1, multi_hot=True)]
        [(3, 1), (3, 1), (3,)]
    """
    data = zlib.decompress(base64.b64decode(text))
    cells = frames * classes
    label_bytes = cells if multi_hot else 2 * frames
    if len(data) != 2 * cells + label_bytes + frames:
        raise DataError(f"{len(data)} bytes are not a video of {frames} frames and {classes} classes; pack it again")
    high, low, rest = np.split(np.frombuffer(data, np.uint8), [cells, 2 * cells])
    changes = high.astype(np.uint16) << 8 | low
    levels = np.cumsum(changes.reshape(classes, frames), axis=1, dtype=np.uint16)
    labels = rest[:label_bytes].reshape(frames, classes) if multi_hot else rest[:label_bytes].view("<i2")
    return levels.T / LEVELS, labels, rest[label_bytes:].astype(bool)


def script_json(value: object) -> str:
    r"""Return JSON that may stand inside a ``<script>`` element whatever the text in it.

    ``<``, ``>`` and ``&`` are written as escapes, so no string can end the element or begin a comment.

    Args:
        value: Plain finite values.

    Returns:
        JSON in ASCII.

    Raises:
        DataError: A value cannot be written as JSON.

    Example:
        >>> print(script_json({"name": "</script>"}))
        {"name":"\u003c/script\u003e"}
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise DataError(f"the page cannot hold this value ({error}); give plain finite values") from error
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
