"""Import THUMOS14 in the layout of the OadTR and CoOadTR repositories: pickles of arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.data.importers.problems import raise_problems
from coadtr.data.progress import progress
from coadtr.data.safe_pickle import load_pickle
from coadtr.data.schema import listing
from coadtr.data.splits import choose_validation
from coadtr.data.writer import StoreWriter
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["import_oadtr"]

_KEY = "THUMOS"
# File names used by CoOadTR, then by OadTR and those who build on it; {} is 'val' (trained on) or 'test'.
_FEATURE_NAMES = {
    "anet": ("thumos_anet_{}.pickle", "thumos_all_feature_{}_tsn_v2.pickle"),
    "kin": (
        "thumos_kin_{}.pickle",
        "thumos_all_feature_{}_V3.pickle",
        "thumos_all_feature_{}_Kinetics.pickle",
    ),
    "anet_plus_audio": ("thumos_anet_plus_audio_{}.pickle",),
    "kin_plus_audio": ("thumos_kin_plus_audio_{}.pickle",),
}
_SUBSETS = ("val", "test")


@dataclass(frozen=True, slots=True)
class _Source:
    """The files of a source, and what its list file says."""

    folder: Path
    features: Mapping[str, Path]
    annotations: Mapping[str, Path]
    class_names: tuple[str, ...]
    sessions: Mapping[str, tuple[str, ...]]

    def named(self, name: str) -> int | None:
        """Return the index of the class of that name, whatever its case, or none."""
        lowered = [known.lower() for known in self.class_names]
        return lowered.index(name) if name in lowered else None


def import_oadtr(
    source: Path,
    out: Path,
    *,
    features: str = "anet",
    features_val: str | None = None,
    features_test: str | None = None,
    anno_val: str | None = None,
    anno_test: str | None = None,
    info: str | None = None,
    rate_hz: float = 5.0,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> Path:
    """Import THUMOS14 features and annotations as OadTR and CoOadTR publish them.

    Features are pickles ``{video: {'rgb': (T, 2048), 'flow': (T, 1024 or 2048)}}`` (and ``'audio'``, where
    published), annotations ``{video: {'anno': (T, 22) one-hot, 'feature_length': T}}``, and the list file
    names classes and videos under ``THUMOS``. ``train_session_set`` (THUMOS14 validation videos) gives the
    train and validation splits, ``test_session_set`` the test split; videos on neither list are left out. One
    subset is in memory at a time. Labels are stored as class indices, or multi-hot if any frame has several
    classes.

    Args:
        source: Folder with the files.
        out: Feature store to write.
        features: Which features: ``anet``, ``kin``, ``anet_plus_audio`` or ``kin_plus_audio``; picks the file
            names.
        features_val: Feature file of the training videos, in or below ``source``, if it has another name.
        features_test: Feature file of the test videos.
        anno_val: Annotation file of the training videos (``thumos_val_anno.pickle``).
        anno_test: Annotation file of the test videos (``thumos_test_anno.pickle``).
        info: List file (``data_info_new.json``).
        rate_hz: Frames a second. The features are taken every 6 video frames, 5.0 for the usual 30 frames a
            second; the files do not carry the rate of each video.
        validation_fraction: Part of the training videos set aside for validation; at least one is.
        seed: Seed of that choice.

    Returns:
        The path of the store.

    Raises:
        DataError: If files or videos are missing, damaged or at odds; as many problems as can be seen in one
            message.
        UnsafeFileError: If a pickle asks for anything but data.
        ConfigError: If an option is unknown or out of range.

    Example:
        >>> from pathlib import Path
        >>> import_oadtr(Path("no_such_folder"), Path("thumos.h5"))
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_folder: no such folder: give the one with the OadTR files as source
    """
    if features not in _FEATURE_NAMES:
        raise ConfigError(f"features={features!r}: use one of {listing(_FEATURE_NAMES)}")
    named = {
        "features_val": features_val,
        "features_test": features_test,
        "anno_val": anno_val,
        "anno_test": anno_test,
        "info": info,
    }
    found = _find_source(source, features, named)
    validation = choose_validation(found.sessions["val"], fraction=validation_fraction, seed=seed)
    targets = _load_targets(found)
    attributes = {
        "origin": f"THUMOS14 features {features} in the OadTR layout: "
        + ", ".join(path.name for path in found.features.values()),
        "label_rule": "published per-frame annotation",
        "rate_rule": f"one rate for all videos, {rate_hz} Hz (video rate / 6; the files carry no rate)",
        "validation": {"fraction": validation_fraction, "seed": seed, "videos": sorted(validation)},
    }
    first = _load_features(found, "val", targets)
    with StoreWriter(
        out,
        class_names=found.class_names,
        background=found.named("background"),
        ignored=found.named("ambiguous"),
        streams={stream: array.shape[1] for stream, array in first[found.sessions["val"][0]].items()},
        attributes=attributes,
    ) as writer:
        for subset in _SUBSETS:
            arrays = first if subset == "val" else _load_features(found, subset, targets)
            names = found.sessions[subset]
            for name in progress(names, total=len(names), description=f"import {subset}"):
                split = "test" if subset == "test" else "validation" if name in validation else "train"
                # Taken out of the dict, so that memory is freed as the import goes on.
                writer.add(name, split=split, rate_hz=rate_hz, features=arrays.pop(name), labels=targets[name])
    return out


def _find_source(folder: Path, features: str, named: Mapping[str, str | None]) -> _Source:
    """Find all files, and read the list file."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder: give the one with the OadTR files as source")
    candidates: dict[str, tuple[str, ...]] = {"info": ("data_info_new.json", "data_info.json")}
    for subset in _SUBSETS:
        candidates[f"features_{subset}"] = tuple(name.format(subset) for name in _FEATURE_NAMES[features])
        candidates[f"anno_{subset}"] = (f"thumos_{subset}_anno.pickle",)
    found: dict[str, Path] = {}
    problems = []
    for option, guesses in candidates.items():
        given = named[option]
        names = guesses if given is None else (given,)
        paths = [folder / name for name in names if (folder / name).is_file()]
        if paths:
            found[option] = paths[0]
        else:
            problems.append(f"no file {' or '.join(names)}: add it, or name it with {option}=")
    raise_problems(folder, problems)
    class_names, sessions = _read_info(found["info"])
    return _Source(
        folder=folder,
        features={subset: found[f"features_{subset}"] for subset in _SUBSETS},
        annotations={subset: found[f"anno_{subset}"] for subset in _SUBSETS},
        class_names=class_names,
        sessions=sessions,
    )


def _read_info(path: Path) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is not a whole JSON file ({error}): copy or download it again") from error
    part = content.get(_KEY) if isinstance(content, dict) else None
    if not isinstance(part, dict):
        raise DataError(f"{path}: has no entry {_KEY!r}: give the published list file")
    lists: dict[str, tuple[str, ...]] = {}
    problems = []
    for field in ("class_index", "train_session_set", "test_session_set"):
        value = part.get(field)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            problems.append(f"{_KEY}.{field} is not a list of names: give the published list file")
            continue
        lists[field] = tuple(value)
        if len(set(value)) != len(value):
            problems.append(f"{_KEY}.{field} lists a name twice: drop one")
    both = set(lists.get("train_session_set", ())) & set(lists.get("test_session_set", ()))
    if both:
        problems.append(f"videos {listing(sorted(both))} are on the train and the test list: drop them from one")
    raise_problems(path, problems)
    return lists["class_index"], {"val": lists["train_session_set"], "test": lists["test_session_set"]}


def _load_targets(source: _Source) -> dict[str, NDArray[np.uint8]]:
    """Read all listed annotations: class indices if every frame has one class, else multi-hot."""
    targets: dict[str, NDArray[np.uint8]] = {}
    problems: list[str] = []
    for subset in _SUBSETS:
        path, classes = source.annotations[subset], len(source.class_names)
        content = _load_videos(path)
        for name in source.sessions[subset]:
            fault = _annotation_fault(content.get(name), classes)
            if fault is None:
                targets[name] = np.asarray(content[name]["anno"]).astype(np.uint8)
            else:
                problems.append(f"{path.name}: video {name!r}: {fault}")
    raise_problems(source.folder, problems)
    if all((target.sum(axis=1) == 1).all() for target in targets.values()):
        return {name: target.argmax(axis=1).astype(np.uint8) for name, target in targets.items()}
    return targets


def _annotation_fault(entry: Any, classes: int) -> str | None:
    if not isinstance(entry, dict) or "anno" not in entry:
        return "has no annotation: add it, or take the video off the list"
    anno = np.asarray(entry["anno"])
    if anno.ndim != 2 or anno.shape[1] != classes or anno.dtype.kind not in "iubf":
        return f"field 'anno' is {anno.dtype} of shape {anno.shape}: give (T, {classes}) zeros and ones"
    if not np.isin(anno, (0, 1)).all():
        return "field 'anno' has values other than 0 and 1: give (T, C) zeros and ones"
    unlabelled = np.flatnonzero(anno.sum(axis=1) == 0)
    if unlabelled.size:
        return f"field 'anno' has no class at frame {unlabelled[0]}: label it as background"
    length = entry.get("feature_length", len(anno))
    if not np.isscalar(length) or length != len(anno):
        return f"field 'feature_length' is {length} but 'anno' has {len(anno)} frames: correct one of them"
    return None


def _load_features(
    source: _Source, subset: str, targets: Mapping[str, NDArray[np.uint8]]
) -> dict[str, dict[str, NDArray[Any]]]:
    """Read the features of one subset and hold their lengths against the labels."""
    path = source.features[subset]
    content = _load_videos(path)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    problems = []
    for name in source.sessions[subset]:
        entry = content.pop(name, None)
        if not isinstance(entry, dict) or not entry:
            problems.append(f"video {name!r} has no features: add them, or take it off the list")
            continue
        arrays[name] = {str(stream): np.asarray(array) for stream, array in entry.items()}
        for stream, array in arrays[name].items():
            if array.ndim != 2:
                problems.append(f"video {name!r}: field {stream!r} has shape {array.shape}: give (T, D)")
            elif len(array) != len(targets[name]):
                problems.append(
                    f"video {name!r}: field {stream!r} has {len(array)} frames "
                    f"but there are {len(targets[name])} labels: "
                    "use features and annotations of the same release"
                )
    raise_problems(path, problems)
    return arrays


def _load_videos(path: Path) -> dict[str, Any]:
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, not a dict of videos: give the published pickle")
    return content
