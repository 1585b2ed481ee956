"""Draw which class each frame of a video carries, one row a video."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

import numpy as np

from coadtr.data.atomic import replacing
from coadtr.data.rewriting.selection import matching
from coadtr.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.data.storage.schema import Labels, VideoRecord
    from coadtr.data.storage.store import FeatureStore

__all__ = ["Stretch", "plot_timeline", "stretches"]

Colour: TypeAlias = tuple[float, float, float, float]

# What each kind of file would otherwise carry of the moment and the machine.
_METADATA: Final[dict[str, dict[str, None]]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
}
_BACKGROUND: Final[Colour] = (0.93, 0.93, 0.93, 1.0)
_IGNORED: Final[Colour] = (0.55, 0.55, 0.55, 1.0)
_INCHES_A_VIDEO: Final = 0.28


class Stretch(NamedTuple):
    """Frames ``start`` to ``stop - 1``, which carry the same classes."""

    start: int
    stop: int
    classes: tuple[int, ...]


def stretches(labels: Labels, *, background: int | None = None) -> list[Stretch]:
    """Join neighbouring frames with the same classes.

    Args:
        labels: ``(T,)`` class indices, or ``(T, C)`` zeros and ones.
        background: Class that is left out where a frame carries another too.

    Returns:
        The stretches in order, from the first frame to the last; one without a class has none.

    Example:
        >>> stretches(np.array([0, 0, 2]))
        [Stretch(start=0, stop=2, classes=(0,)), Stretch(start=2, stop=3, classes=(2,))]
    """
    rows: NDArray[Any] = labels.reshape(len(labels), -1)
    cuts = [0, *(np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1).tolist(), len(rows)]
    found = []
    for start, stop in pairwise(cuts):
        own = np.flatnonzero(rows[start]).tolist() if labels.ndim == 2 else [int(rows[start, 0])]
        others = [index for index in own if index != background]
        found.append(Stretch(start, stop, tuple(others or own)))
    return found


def plot_timeline(
    store: FeatureStore, path: str | Path, *, videos: Sequence[str] | None = None, most: int = 30
) -> Path:
    """Draw a row for each video, coloured by class over time; frames of several classes share the height.

    Args:
        store: The feature store.
        path: Image to write: ``.png``, ``.pdf`` or ``.svg``.
        videos: Names or patterns of the videos to draw; none for all.
        most: Videos to draw at most, the first ones of the store.

    Returns:
        The path.

    Raises:
        ConfigError: If the kind of image is unknown, a pattern fits no video, or ``most`` is not positive.
        DataError: If the store is damaged, or the image cannot be written.
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from coadtr.data import FeatureStore, write_exercises
        >>> folder = Path(tempfile.mkdtemp())
        >>> with FeatureStore(write_exercises(folder / "exercises.h5")) as store:
        ...     plot_timeline(store, folder / "exercises.png", videos=["subject_0*"]).name
        'exercises.png'
    """
    target = Path(path)
    if target.suffix.lower() not in _METADATA:
        raise ConfigError(f"plot={path}: kind {target.suffix!r} is unknown: use one of {', '.join(_METADATA)}")
    if most < 1:
        raise ConfigError(f"most={most}: give a positive number of videos")
    every = [record.name for record in store.videos()]
    chosen = matching(every, videos, setting="videos") if videos else tuple(every)
    records = [store.video(name) for name in chosen[:most]]
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to load
    except ImportError as error:
        raise MissingExtraError('plots need matplotlib: pip install "coadtr[plot]"') from error
    # Names are shown as they are, also with dollar signs; equal data give equal files.
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": "coadtr"}), replacing(target) as part:
        figure = _draw(store, records, shown=f"{len(records)} of {len(every)} videos")
        kind = target.suffix.lower()
        figure.savefig(part, format=kind[1:], metadata=_METADATA[kind], bbox_inches="tight")
    return target


def _draw(store: FeatureStore, records: Sequence[VideoRecord], *, shown: str) -> Any:
    from matplotlib.collections import PolyCollection  # noqa: PLC0415 - as above
    from matplotlib.figure import Figure  # noqa: PLC0415

    # Not by pyplot: a figure of its own needs no screen and leaves no trace.
    figure = Figure(figsize=(12, 1.2 + _INCHES_A_VIDEO * len(records)), dpi=120)
    axes = figure.add_subplot()
    colours = _colours(store)
    corners: list[list[tuple[float, float]]] = []
    faces: list[Colour] = []
    seen: set[int] = set()
    for row, record in enumerate(records):
        for start, stop, classes in stretches(store.labels(record.name), background=store.background):
            left, right = start / record.rate_hz, stop / record.rate_hz
            height = 0.8 / max(1, len(classes))
            for lane, index in enumerate(classes):
                low = row - 0.4 + lane * height
                corners.append([(left, low), (right, low), (right, low + height), (left, low + height)])
                faces.append(colours[index])
                seen.add(index)
    axes.add_collection(PolyCollection(corners, facecolors=faces, linewidths=0))
    axes.set_xlim(0, max(record.seconds for record in records))
    axes.set_ylim(len(records) - 0.5, -0.5)
    axes.set_yticks(range(len(records)), [f"{record.name} ({record.split})" for record in records], fontsize=7)
    axes.set_xlabel("seconds")
    axes.set_title(f"{store.path.name}: {shown}", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _add_legend(axes, store, colours, sorted(seen))
    return figure


def _colours(store: FeatureStore) -> list[Colour]:
    """Return a colour for each class: strong ones for actions, light grey for background, grey for the ignored."""
    from matplotlib import colormaps  # noqa: PLC0415 - as above

    special = {store.background: _BACKGROUND, store.ignored: _IGNORED}
    actions = [index for index in range(len(store.class_names)) if index not in special]
    # The greys of these tables would pass for background.
    listed = [cast("Any", colormaps[name]).colors for name in ("tab10", "tab20")]
    tables = [[colour for colour in table if len(set(colour)) > 1] for table in listed]
    table = next((table for table in tables if len(actions) <= len(table)), None)
    if table is None:  # neighbours in the list far apart on the scale
        table = [colormaps["turbo"](0.02 + 0.96 * (place * 0.618034 % 1)) for place in range(len(actions))]
    strong = {index: cast("Colour", (*colour[:3], 1.0)) for index, colour in zip(actions, table, strict=False)}
    return [strong[index] if index in strong else special[index] for index in range(len(store.class_names))]


def _add_legend(axes: Any, store: FeatureStore, colours: Sequence[Colour], seen: Sequence[int]) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - as above

    # A label that begins with an underscore would be left out.
    names = [store.class_names[index] for index in seen]
    axes.legend(
        [Patch(facecolor=colours[index]) for index in seen],
        [f" {name}" if name.startswith("_") else name for name in names],
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        ncols=1 + len(seen) // 26,
        fontsize=7,
        frameon=False,
    )
