"""Features of sound beside frames of video: which of them a frame gets, so that none comes from the future.

Frame t of a video of rate r is complete at ``(t + 1) / r`` seconds. Feature k of the sound is complete at ``first_s +
k / rate_hz``. With ``mean`` a frame gets the mean of those that became complete since the frame before, and the
latest where none did; with ``latest`` the latest that is complete by then. Frames before the first feature get zeros;
after the last feature the last one stays. Times within a millionth of a feature of each other count as the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.sources.rate_options import check_rate
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ALIGNMENTS", "align_features", "check_alignment"]

ALIGNMENTS: Final = ("mean", "latest")
_SAME: Final = 1e-6


def check_alignment(align: str) -> None:
    """Raise `ConfigError` if a rule is none of `ALIGNMENTS`.

    Example:
        >>> check_alignment("nearest")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: align='nearest': use one of 'mean', 'latest'
    """
    if align not in ALIGNMENTS:
        raise ConfigError(f"align={align!r}: use one of {listing(ALIGNMENTS)}")


def align_features(
    features: NDArray[Any], *, rate_hz: float, first_s: float, frames: int, frame_rate_hz: float, align: str = "mean"
) -> NDArray[Any]:
    """Give every frame of a video its features of sound, none of which is complete after the frame.

    Args:
        features: ``(K, D)`` features of the sound.
        rate_hz: Features a second.
        first_s: Seconds at which feature 0 is complete.
        frames: Number of frames T of the video.
        frame_rate_hz: Frames a second.
        align: One of `ALIGNMENTS`.

    Returns:
        ``(T, D)``, of the type of the features (float32 for means).

    Raises:
        ConfigError: If the rule is unknown or a rate is none.

    Example:
        >>> tones = np.arange(6.0)[:, None]  # five a second, complete after 0.2, 0.4, ... seconds
        >>> values = {"rate_hz": 5.0, "first_s": 0.2, "frames": 3, "frame_rate_hz": 2.0}
        >>> align_features(tones, **values).T, align_features(tones, **values, align="latest").T
        (array([[0.5, 3. , 5. ]], dtype=float32), array([[1., 4., 5.]]))
    """
    check_alignment(align)
    check_rate("rate_hz", rate_hz)
    check_rate("frame_rate_hz", frame_rate_hz)
    complete = (np.arange(frames) + 1) / frame_rate_hz
    latest = np.floor((complete - first_s) * rate_hz + _SAME).astype(np.int64)
    latest = np.clip(latest, -1, len(features) - 1)
    heard = latest >= 0
    out = np.zeros((frames, features.shape[1]), np.float32 if align == "mean" else features.dtype)
    out[heard] = features[latest[heard]]
    if align == "mean":
        before = np.concatenate([[-1], latest[:-1]])
        new = np.flatnonzero(latest > before)
        if len(new):
            # The features between two frames follow those of the frames before without a gap.
            sums = np.add.reduceat(features[: latest[new[-1]] + 1], before[new] + 1, axis=0, dtype=np.float64)
            out[new] = sums / (latest[new] - before[new])[:, None]
    return out
