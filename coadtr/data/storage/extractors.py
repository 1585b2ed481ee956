"""What made the features of a store: backbone, weights, sampling; kept among its attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["extractors_of"]


def extractors_of(attributes: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Return what made the features of each stream, as the attribute ``extractors`` of a store tells it.

    Args:
        attributes: The attributes of a store, which anybody may have written.

    Returns:
        By stream, texts such as ``backbone``, ``weights`` and ``sampling``; streams of unknown origin are left out.

    Example:
        >>> extractors_of({"extractors": {"rgb": {"backbone": "resnet50", "weights": "kinetics"}, "flow": None}})
        {'rgb': {'backbone': 'resnet50', 'weights': 'kinetics'}}
    """
    found = attributes.get("extractors")
    if not isinstance(found, dict):
        return {}
    return {
        str(stream): {str(key): str(value) for key, value in told.items()}
        for stream, told in found.items()
        if isinstance(told, dict) and told
    }
