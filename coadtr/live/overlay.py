"""Words on pictures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coadtr.live.told import Action

__all__ = ["annotate"]

_BAR: Final = (0, 0, 0, 150)
_TEXT: Final = (255, 255, 255, 255)
_QUIET: Final = (190, 190, 190, 255)
_LIVE: Final = (255, 196, 61, 255)


def annotate(
    rgb: NDArray[np.uint8], action: Action | None, time: float, going_on: tuple[str, ...]
) -> NDArray[np.uint8]:
    """Write the current action over the lower edge of a picture.

    Args:
        rgb: ``(H, W, 3)`` uint8; it is not changed.
        action: The action, or None before the first answer.
        time: Seconds of the video.
        going_on: Actions whose start was told and whose end was not.

    Returns:
        A picture of the same size.

    Example:
        >>> annotate(np.zeros((48, 64, 3), np.uint8), None, 1.5, ()).shape
        (48, 64, 3)
    """
    picture = Image.fromarray(rgb).convert("RGBA")
    width, height = picture.size
    bar = max(14, height // 9)
    layer = Image.new("RGBA", (width, bar), _BAR)
    draw = ImageDraw.Draw(layer)
    pad, font, small = bar // 4, _font(int(0.55 * bar)), _font(int(0.4 * bar))
    said = "waiting" if action is None else f"{action.name}  {100 * action.score:.0f} %"
    quiet = action is None or action.background
    if action is not None and not quiet:  # a band as long as the score is high
        draw.rectangle((0, 0, round(width * action.score), max(1, bar // 14)), fill=_LIVE)
    draw.text((pad, bar / 2), said, fill=_QUIET if quiet else _TEXT, font=font, anchor="lm")
    note = "  ".join((*going_on, f"{time:.2f} s"))
    left = pad + draw.textlength(said, font=font) + 2 * pad
    if left + draw.textlength(note, font=small) > width - pad:
        note = f"{time:.2f} s"
    draw.text((width - pad, bar / 2), note, fill=_LIVE if going_on else _QUIET, font=small, anchor="rm")
    picture.alpha_composite(layer, (0, height - bar))
    return np.asarray(picture.convert("RGB"))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(8, size))
