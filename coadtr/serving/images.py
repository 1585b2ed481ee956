"""Image files from anybody: limited before they are decoded, and trusted in nothing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from coadtr.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PIXELS", "SIDE", "read_image", "write_jpeg"]

PIXELS: Final = 4_000_000
"""Most pixels of a picture."""

SIDE: Final = 1280
"""Pixels of the longer side to which a larger picture is made smaller: networks look at far fewer, and keep many."""

_FORMATS: Final = ("JPEG", "PNG", "WEBP")
# A progressive JPEG goes over all its pixels in each scan. Real ones have about ten; a small file can hold thousands.
_SCANS: Final = 64
_SCAN: Final = b"\xff\xda"
_JPEG: Final = b"\xff\xd8"


def read_image(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file, and make it smaller where a side is longer than `SIDE`.

    Args:
        data: The file.

    Returns:
        The picture, upright: ``(H, W, 3)`` uint8.

    Raises:
        DataError: If it is none of them, damaged, or too large.

    Example:
        >>> read_image(write_jpeg(np.zeros((48, 64, 3), np.uint8))).shape
        (48, 64, 3)
        >>> read_image(b"GIF89a")
        Traceback (most recent call last):
        coadtr.errors.DataError: a picture of 6 bytes is no JPEG, PNG or WebP; send one of them
    """
    if data.startswith(_JPEG) and data.count(_SCAN) > _SCANS:
        raise DataError(f"a picture has more than {_SCANS} scans; send a JPEG that is not progressive")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height <= PIXELS:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            upright.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
            return np.array(upright)
    except UnidentifiedImageError as error:
        raise DataError(f"a picture of {len(data)} bytes is no JPEG, PNG or WebP; send one of them") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"a picture has far more than {PIXELS} pixels, the limit; make it smaller") from error
    except Exception as error:  # on damaged files Pillow raises more kinds than can be listed
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"a picture of {len(data)} bytes is damaged ({said}); send a whole one") from error
    raise DataError(f"a picture has {width} x {height} pixels, and the limit is {PIXELS}; make it smaller")


def write_jpeg(rgb: NDArray[np.uint8], width: int = 640) -> bytes:
    """Encode a picture ``(H, W, 3)`` as JPEG, made smaller where it is wider than ``width`` pixels."""
    image = Image.fromarray(rgb)
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()
