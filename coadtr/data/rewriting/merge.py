"""Join feature stores: their classes by name, their videos one after the other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coadtr.data.rewriting.rewrite import Copied, provenance, write_copies
from coadtr.data.storage.extractors import extractors_of
from coadtr.data.storage.schema import Header, listing
from coadtr.data.storage.store import FeatureStore
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coadtr.data.storage.schema import Labels

__all__ = ["merge_stores"]


def merge_stores(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    classes: str = "same",
    prefix: bool = False,
) -> None:
    """Write the videos of several stores into one.

    Classes are matched by name, in the order of the first store; labels become multi-hot if those of one store
    are. Attributes that all stores share are kept. The attribute ``sources`` lists the stores.

    Args:
        paths: The feature stores, two or more.
        out: File to write.
        classes: ``'same'``: all stores have the same classes; ``'union'``: some may lack some.
        prefix: Put the name of its file before the name of each video, so that no two are the same.

    Raises:
        DataError: If streams, extractors, classes or their roles differ, two videos have the same name, a store is
            damaged, or the file cannot be written.
        ConfigError: If there are fewer than two stores, ``classes`` is unknown, or ``out`` is one of the stores.

    Example:
        >>> import tempfile
        >>> from coadtr.data import write_exercises
        >>> folder = Path(tempfile.mkdtemp())
        >>> paths = [write_exercises(folder / name) for name in ("a.h5", "b.h5")]
        >>> merge_stores(paths, folder / "c.h5", prefix=True)
        >>> [record.name for record in FeatureStore(folder / "c.h5").videos()][::10]
        ['a_subject_01', 'b_subject_01']
    """
    if classes not in ("same", "union"):
        raise ConfigError(f"classes={classes!r}: use one of same, union")
    if len(paths) < 2:
        raise ConfigError(f"paths names {len(paths)} stores: give two or more")
    with ExitStack() as stack:
        stores = [stack.enter_context(FeatureStore(path)) for path in paths]
        _check_streams(stores)
        names = _class_names(stores, classes)
        places = {store.path: np.array([names.index(name) for name in store.class_names]) for store in stores}
        multi_hot = any(store.label_kind == "multi-hot" for store in stores)

        def relabel(store: FeatureStore, labels: Labels) -> NDArray[Any]:
            own = places[store.path]
            if not multi_hot:
                return own[labels]
            joined = np.zeros((len(labels), len(names)), np.uint8)
            if labels.ndim == 2:
                joined[:, own] = labels
            else:
                joined[np.arange(len(labels)), own[labels]] = 1
            return joined

        background, ignored = _role(stores, "background"), _role(stores, "ignored")
        header = Header(
            names,
            None if background is None else names.index(background),
            None if ignored is None else names.index(ignored),
            stores[0].streams,
            _attributes(stores),
        )
        write_copies(
            out,
            header,
            _videos(stores, prefix=prefix),
            settings=("merge", classes, prefix),
            multi_hot=multi_hot,
            relabel=relabel,
        )


def _check_streams(stores: Sequence[FeatureStore]) -> None:
    first, made = stores[0], extractors_of(stores[0].attributes)
    for store in stores[1:]:
        if store.attributes.get("task") != first.attributes.get("task"):
            raise DataError(
                f"{store.path}: its videos are recordings to classify where those of {first.path} are streams, or the "
                "other way round: merge stores of one kind"
            )
        if store.streams != first.streams:
            raise DataError(
                f"{store.path}: has streams {_widths(store)} but {first.path} has {_widths(first)}: take the streams "
                "that both have with `coadtr data split streams=[...]`, or extract them alike"
            )
        own = extractors_of(store.attributes)
        # Where one of the two does not say, they may be the same.
        for stream in made.keys() & own.keys():
            if made[stream] != own[stream]:
                raise DataError(
                    f"{store.path}: stream {stream!r} was made by {own[stream]} but that of {first.path} by "
                    f"{made[stream]}: a model cannot learn from both, extract them alike"
                )
        made = own | made


def _widths(store: FeatureStore) -> str:
    return ", ".join(f"{name!r} {dim}" for name, dim in store.streams.items())


def _class_names(stores: Sequence[FeatureStore], classes: str) -> tuple[str, ...]:
    every = tuple(dict.fromkeys(name for store in stores for name in store.class_names))
    for store in stores:
        missing = [name for name in every if name not in store.class_names]
        if missing and classes == "same":
            raise DataError(
                f"{store.path}: lacks the classes {listing(missing)} of the other stores: say classes=union to take "
                "the classes of all"
            )
    return every


def _role(stores: Sequence[FeatureStore], role: Literal["background", "ignored"]) -> str | None:
    """Return the name of the class in a role; all stores that have the class have to agree."""
    found: str | None = None
    by: FeatureStore | None = None
    for store in stores:
        index = store.background if role == "background" else store.ignored
        if index is not None and by is None:
            found, by = store.class_names[index], store
    for store in stores:
        index = store.background if role == "background" else store.ignored
        own = None if index is None else store.class_names[index]
        if by is not None and own != found and (own is not None or found in store.class_names):
            raise DataError(
                f"{store.path}: its {role} class is {own!r} but that of {by.path} is {found!r}: "
                "import one of them again with the classes of the other"
            )
    return found


def _attributes(stores: Sequence[FeatureStore]) -> Mapping[str, object]:
    first = stores[0].attributes
    shared = {
        key: value
        for key, value in first.items()
        if all(key in store.attributes and store.attributes[key] == value for store in stores)
    }
    # Which rule made the labels decides the scores, so every report says it, also where there were two.
    rules = {str(store.attributes["label_rule"]): None for store in stores if "label_rule" in store.attributes}
    if rules and "label_rule" not in shared:
        shared["label_rule"] = " and ".join(
            f"{store.attributes.get('label_rule', 'unknown')} ({store.path.name})" for store in stores
        )
    return {**shared, "sources": [provenance(store) for store in stores]}


def _videos(stores: Sequence[FeatureStore], *, prefix: bool) -> list[Copied]:
    found: dict[str, Copied] = {}
    for store in stores:
        for record in store.videos():
            name = f"{store.path.stem}_{record.name}" if prefix else record.name
            if name in found:
                remedy = "rename one of the files" if prefix else "say prefix=true, or take other videos"
                raise DataError(f"{store.path}: video {name!r} is also in {found[name].store.path}: {remedy}")
            found[name] = Copied(replace(record, name=name), store, record.name)
    return list(found.values())
