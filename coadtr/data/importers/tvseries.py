"""Import TVSeries: the pickles of CoOadTR, or its features with the original annotation text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.importers.pickled_videos import (
    PickledFeatures,
    annotation_fault,
    check_files,
    find_files,
    load_videos,
    width_warnings,
)
from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.importers.problems import raise_problems
from coadtr.data.importers.session_lists import SessionLists, read_lists
from coadtr.data.importers.tvseries_columns import ORDERS, columns_of, reorder
from coadtr.data.importers.tvseries_text import TEXT_FILES, find_text, read_text
from coadtr.data.sources.coverage import Coverage
from coadtr.data.sources.label_rules import OUTSIDE, OVERLAPS, frame_labels, frame_span
from coadtr.data.splits import choose_validation
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["plan_tvseries"]

_FEATURES: Final = ("anet", "kin")
_ANNOTATIONS: Final = ("auto", "text", "pickle")
_WIDTHS: Final = {"rgb": 2048, "flow": 2048}
# The extraction script beside CoOadTR (tools/data/tvseries in its author's mmaction2) builds this one.
_EXTRACTOR: Final = {"backbone": "ResNet-50", "weights": "TSN on ActivityNet (mmaction2)"}


@dataclass
class _Labels:
    """Where labels come from: how to make those of a video of T frames, by name."""

    rule: str
    of: dict[str, Callable[[int], NDArray[np.uint8]]] = field(default_factory=dict)
    validation: frozenset[str] | None = None
    files: tuple[Path, ...] = ()
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def plan_tvseries(
    source: Path,
    *,
    features: str = "anet",
    features_file: str | None = None,
    annotation: str = "auto",
    anno: str | None = None,
    class_order: str | None = None,
    info: str | None = None,
    rule: str = "oadtr",
    overlap: str = "multi-hot",
    outside: str = "error",
    rate_hz: float = 5.0,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> ImportPlan:
    """Plan the import of TVSeries features and annotations.

    Features are one pickle ``{session: {'rgb': (T, 2048), 'flow': (T, 2048)}}``; the list file names the 31 classes,
    the background first and the others by frequency, and the sessions under ``TVSERIES``. Labels come from the
    original text (``GT-train.txt``, ``GT-val.txt``, ``GT-test.txt``), where class names decide, or from a pickle
    ``{session: (T, 31)}``, which names no classes: its columns are to be named by ``class_order``.

    The text makes the sessions of ``GT-val.txt`` the validation split; with a pickle, it is chosen from the
    training list by seed.

    Args:
        source: Folder with the files.
        features: ``anet`` or ``kin``; picks the file name, ``tvseries_anet_features.pickle``.
        features_file: Feature file, in or below ``source``, if it has another name.
        annotation: ``text``, ``pickle``, or ``auto``: text if it is there.
        anno: Folder of the text (``source``, or ``splits`` in it), or the pickle (``tvseries_anno.pickle``).
        class_order: What the columns of the pickle are: ``published`` (as the list file), ``alphabetical``
            (background, then the actions by name), ``cooadtr`` (as CoOadTR's own parser writes them), or a text
            file with one class name a line. None recognises ``cooadtr`` by its unused last column.
        info: List file (``data_info_new.json``).
        rule: How segments of the text become frames, one of `coadtr.data.sources.label_rules.LABEL_RULES`.
        overlap: What a frame in several segments becomes, one of `coadtr.data.sources.label_rules.OVERLAPS`.
        outside: Segments of the text past the end of their video: ``error``, or ``cut`` to drop what is outside.
        rate_hz: Frames a second. CoOadTR takes every fifth frame of 25 a second; LSTR's features have 4 Hz.
        validation_fraction: Part of the training sessions set aside for validation, where no text says which; at
            least one is, so 0 is refused.
        seed: Seed of that choice.

    Returns:
        What is to be imported.

    Raises:
        DataError: If files are missing, damaged or at odds; as many problems as can be seen in one message.
        UnsafeFileError: If a pickle asks for anything but data.
        ConfigError: If an option is unknown or out of range.

    Example:
        >>> from pathlib import Path
        >>> plan_tvseries(Path("no_such_folder"))
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_folder: no such folder: give the one with the TVSeries files as source
    """
    choices = {"features": _FEATURES, "annotation": _ANNOTATIONS, "overlap": OVERLAPS, "outside": OUTSIDE}
    for (option, known), value in zip(choices.items(), (features, annotation, overlap, outside), strict=True):
        if value not in known:
            raise ConfigError(f"{option}={value!r}: use one of {listing(known)}")
    frame_span(0.0, 1.0, rate_hz=rate_hz, rule=rule)
    files, texts = _find(source, features, annotation, {"features_file": features_file, "anno": anno, "info": info})
    lists = read_lists(files["info"], "TVSERIES", fixed=True)
    if texts:
        make = partial(frame_labels, classes=len(lists.class_names), background=lists.background, overlap=overlap)
        labels = _from_text(texts, lists, partial(make, outside=outside), rule, rate_hz)
    else:
        labels = _from_pickle(files["anno"], lists, class_order, source)
    chosen = labels.validation
    if chosen is None:
        chosen = choose_validation(lists.train, fraction=validation_fraction, seed=seed)
    path = files["features_file"]
    check_files(source, [path], labels.problems)
    arrays = PickledFeatures({path: [*lists.train, *lists.test]})
    streams = arrays.widths(path) or _WIDTHS

    def read(name: str) -> VideoArrays:
        taken = arrays.take(path, name)
        return taken, labels.of[name](max(len(array) for array in taken.values()))

    return ImportPlan(
        source=source,
        class_names=lists.class_names,
        background=lists.background,
        ignored=None,
        streams=streams,
        attributes={
            "origin": f"TVSeries features {features} in the CoOadTR layout: {path.name}",
            "label_rule": labels.rule,
            "rate_rule": f"{rate_hz} Hz (every fifth frame of 25 a second; the files carry no rate)",
            "validation": {"videos": sorted(chosen)}
            if labels.validation is not None
            else {"fraction": validation_fraction, "seed": seed, "videos": sorted(chosen)},
            **({"overlap": overlap, "outside": outside} if texts else {}),
            **({"extractors": dict.fromkeys(_WIDTHS, _EXTRACTOR)} if features == "anet" and streams == _WIDTHS else {}),
        },
        videos=tuple(
            PlannedVideo(
                name=name,
                split="test" if name in lists.test else "validation" if name in chosen else "train",
                rate_hz=rate_hz,
                read=partial(read, name),
            )
            for name in (*lists.train, *lists.test)
            if name in labels.of
        ),
        files=(path, files["info"], *labels.files),
        problems=tuple(labels.problems),
        warnings=(*width_warnings(streams, {"rgb": _WIDTHS["rgb"]}, features), *labels.warnings),
    )


def _find(
    folder: Path, features: str, annotation: str, given: Mapping[str, str | None]
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Find the files by option, and the annotation text by split if that is what is to be read."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder: give the one with the TVSeries files as source")
    candidates: dict[str, Sequence[str]] = {
        "features_file": [f"tvseries_{features}_features.pickle", f"tvseries_{features}_features.pkl"],
        "info": ["data_info_new.json", "data_info.json"],
    }
    places = [folder, folder / "splits"] if given["anno"] is None else [folder / given["anno"]]
    texts: dict[str, Path] = next((found for place in places if (found := find_text(place))), {})
    problems = []
    if annotation == "pickle" or (annotation == "auto" and not texts):
        texts = {}
        candidates["anno"] = ["tvseries_anno.pickle"]
    else:
        problems = [
            f"no file {name}: add it beside the others, name their folder with anno=, or say annotation=pickle"
            for split, name in TEXT_FILES.items()
            if split not in texts
        ]
    found, missing = find_files(folder, candidates, given)
    raise_problems(folder, [*missing, *problems])
    return found, texts


def _from_text(
    texts: Mapping[str, Path], lists: SessionLists, make: Callable[..., NDArray[np.uint8]], rule: str, rate_hz: float
) -> _Labels:
    annotations, problems = read_text(texts, lists.class_names, lists.background)
    labels = _Labels(rule=rule, files=tuple(texts.values()), problems=problems)
    coverage = Coverage(lists.class_names, rule=rule, unneeded=(lists.background,))
    for name in (*lists.train, *lists.test):
        wanted = ("test",) if name in lists.test else ("train", "validation")
        if name not in annotations:
            problems.append(
                f"video {name!r}: has no line in {listing(TEXT_FILES.values())}: add it, or take it off the list"
            )
        elif annotations[name].split not in wanted:
            problems.append(
                f"video {name!r}: is in {TEXT_FILES[annotations[name].split]} but on the "
                f"{'test' if name in lists.test else 'train'} list: use text and list of the same release"
            )
        else:
            segments, rows = annotations[name].segments, annotations[name].rows
            labels.of[name] = partial(_label, partial(make, segments, rule=rule, rate_hz=rate_hz, names=rows))
            coverage.add(name, segments, rate_hz=rate_hz, names=rows)
    others = sorted(set(annotations) - set(lists.train) - set(lists.test))
    if others:
        labels.warnings.append(f"videos {listing(others)} are annotated but on no list: left out")
    labels.warnings += coverage.warnings()
    labels.validation = frozenset(name for name in labels.of if annotations[name].split == "validation")
    if not labels.validation or labels.validation >= set(lists.train):
        problems.append(
            "GT-train.txt and GT-val.txt: both must hold videos of the train list: use those of the release"
        )
    return labels


def _label(make: Callable[..., NDArray[np.uint8]], frames: int) -> NDArray[np.uint8]:
    return make(frames=frames)


def _from_pickle(path: Path, lists: SessionLists, class_order: str | None, folder: Path) -> _Labels:
    content, classes, problems = load_videos(path), len(lists.class_names), []
    arrays: dict[str, NDArray[Any]] = {}
    for name in (*lists.train, *lists.test):
        fault = annotation_fault(content.get(name), classes)
        if fault is None:
            arrays[name] = content[name].astype(np.uint8)
        else:
            problems.append(f"{path.name}: video {name!r}: {fault}")
    del content
    if class_order is None and arrays and not any(array[:, -1].any() for array in arrays.values()):
        class_order = "cooadtr"
    labels = _Labels(rule=f"published per-frame labels, columns {class_order}", files=(path,), problems=problems)
    if class_order is None:
        problems.append(
            f"{path.name}: names no classes: say what its columns are with class_order="
            f"{', '.join(ORDERS)} or a file of {classes} names, or import the annotation text"
        )
        return labels
    columns = columns_of(class_order, lists, folder)
    for name, array in arrays.items():
        fault, ordered = reorder(array, columns, lists)
        if fault is None:
            labels.of[name] = partial(_constant, ordered)
        else:
            problems.append(f"{path.name}: video {name!r}: {fault}")
    if columns.shared:
        labels.warnings.append(
            f"{path.name}: its first column stands for the background and for {columns.names[0]!r} at once: frames "
            "with nothing else are taken as background; import the annotation text for all classes"
        )
    return labels


def _constant(labels: NDArray[np.uint8], _frames: int) -> NDArray[np.uint8]:
    return labels
