"""Import THUMOS14 in the layout of the OadTR and CoOadTR repositories: pickles of arrays."""

from __future__ import annotations

import math
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
from coadtr.data.importers.session_lists import read_lists
from coadtr.data.sources.json_files import read_json
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.splits import choose_validation
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["plan_oadtr"]

# File names used by CoOadTR, then by OadTR and those who build on it; {} is 'val' (trained on) or 'test'.
_FEATURE_NAMES: Final = {
    "anet": ("thumos_anet_{}.pickle", "thumos_all_feature_{}_tsn_v2.pickle"),
    "kin": (
        "thumos_kin_{}.pickle",
        "thumos_all_feature_{}_V3.pickle",
        "thumos_all_feature_{}_Kinetics.pickle",
    ),
    "anet_plus_audio": ("thumos_anet_plus_audio_{}.pickle",),
    "kin_plus_audio": ("thumos_kin_plus_audio_{}.pickle",),
}
_WIDTHS: Final = {"anet": {"rgb": 2048, "flow": 1024}, "kin": {"rgb": 2048, "flow": 2048}}
# The README of OadTR names the models of yjxiong/anet2016-cuhk. For Kinetics it names none.
_ANET: Final = "TSN on ActivityNet (anet2016-cuhk)"
_EXTRACTORS: Final = {
    "anet": {
        "rgb": {"backbone": "ResNet-200", "weights": _ANET},
        "flow": {"backbone": "BN-Inception", "weights": _ANET},
    }
}
_SUBSETS: Final = ("val", "test")


def plan_oadtr(
    source: Path,
    *,
    features: str = "anet",
    features_val: str | None = None,
    features_test: str | None = None,
    anno_val: str | None = None,
    anno_test: str | None = None,
    info: str | None = None,
    dataset: str = "THUMOS",
    rate_hz: float = 5.0,
    rates: str | None = None,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> ImportPlan:
    """Plan the import of THUMOS14 features and annotations as OadTR and CoOadTR publish them.

    Features are pickles ``{video: {'rgb': (T, 2048), 'flow': (T, 1024 or 2048)}}`` (and ``'audio'``, where
    published), annotations ``{video: {'anno': (T, 22) one-hot, 'feature_length': T}}``, and the list file
    names classes and videos under ``THUMOS``. ``train_session_set`` (THUMOS14 validation videos) gives the
    train and validation splits, ``test_session_set`` the test split; videos on neither list are left out. One
    pickle of features is in memory at a time.

    Args:
        source: Folder with the files.
        features: Which features: ``anet``, ``kin``, ``anet_plus_audio`` or ``kin_plus_audio``; picks the file
            names.
        features_val: Feature file of the training videos, in or below ``source``, if it has another name.
        features_test: Feature file of the test videos.
        anno_val: Annotation file of the training videos (``thumos_val_anno.pickle``).
        anno_test: Annotation file of the test videos (``thumos_test_anno.pickle``).
        info: List file (``data_info_new.json``).
        dataset: Key of the data set in the list file.
        rate_hz: Frames a second. The features are taken every 6 video frames, 5.0 for the usual 30 frames a
            second; the files do not carry the rate of each video.
        rates: JSON file ``{video: frames a second of its features}``, for the videos that have another rate.
        validation_fraction: Part of the training videos set aside for validation; at least one is, so 0 is refused.
        seed: Seed of that choice.

    Returns:
        What is to be imported.

    Raises:
        DataError: If files are missing, damaged or at odds; as many problems as can be seen in one message.
        UnsafeFileError: If a pickle asks for anything but data.
        ConfigError: If an option is unknown or out of range.

    Example:
        >>> from pathlib import Path
        >>> plan_oadtr(Path("no_such_folder"))
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_folder: no such folder: give the one with the OadTR files as source
    """
    if features not in _FEATURE_NAMES:
        raise ConfigError(f"features={features!r}: use one of {listing(_FEATURE_NAMES)}")
    check_rate("rate_hz", rate_hz)
    given = {
        "features_val": features_val,
        "features_test": features_test,
        "anno_val": anno_val,
        "anno_test": anno_test,
        "info": info,
        "rates": rates,
    }
    files = _find(source, features, given)
    lists = read_lists(files["info"], dataset)
    sessions = {"val": lists.train, "test": lists.test}
    validation = choose_validation(lists.train, fraction=validation_fraction, seed=seed)
    targets, problems = _targets(files, sessions, len(lists.class_names))
    own_rates = _rates(files["rates"], [*lists.train, *lists.test], problems) if rates is not None else {}
    arrays = PickledFeatures({files[f"features_{subset}"]: sessions[subset] for subset in _SUBSETS})
    check_files(source, (files[f"features_{subset}"] for subset in _SUBSETS), problems)
    kind = features.removesuffix("_plus_audio")
    streams = arrays.widths(files["features_val"]) or _WIDTHS[kind]

    def read(path: Path, name: str) -> VideoArrays:
        return arrays.take(path, name), targets[name]

    return ImportPlan(
        source=source,
        class_names=lists.class_names,
        background=lists.background,
        ignored=lists.index_of("ambiguous"),
        streams=streams,
        attributes={
            "origin": f"THUMOS14 features {features} in the OadTR layout: "
            + ", ".join(files[f"features_{subset}"].name for subset in _SUBSETS),
            "label_rule": "published per-frame annotation",
            "rate_rule": f"{rate_hz} Hz (video rate / 6; the files carry no rate)"
            + (f", but for {len(own_rates)} videos that {files['rates'].name} lists" if own_rates else ""),
            "validation": {"fraction": validation_fraction, "seed": seed, "videos": sorted(validation)},
            **({"extractors": _EXTRACTORS[kind]} if kind in _EXTRACTORS else {}),
        },
        videos=tuple(
            PlannedVideo(
                name=name,
                split="test" if subset == "test" else "validation" if name in validation else "train",
                rate_hz=own_rates.get(name, rate_hz),
                read=partial(read, files[f"features_{subset}"], name),
            )
            for subset in _SUBSETS
            for name in sessions[subset]
            if name in targets
        ),
        files=tuple(files.values()),
        problems=tuple(problems),
        warnings=width_warnings(streams, _WIDTHS[kind], kind),
    )


def _find(folder: Path, features: str, given: Mapping[str, str | None]) -> dict[str, Path]:
    """Find all files by option."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder: give the one with the OadTR files as source")
    candidates: dict[str, Sequence[str]] = {"info": ("data_info_new.json", "data_info.json")}
    for subset in _SUBSETS:
        candidates[f"features_{subset}"] = [name.format(subset) for name in _FEATURE_NAMES[features]]
        candidates[f"anno_{subset}"] = [f"thumos_{subset}_anno.pickle"]
    if given["rates"] is not None:
        candidates["rates"] = [given["rates"]]
    found, problems = find_files(folder, candidates, given)
    raise_problems(folder, problems)
    return found


def _targets(
    files: Mapping[str, Path], sessions: Mapping[str, Sequence[str]], classes: int
) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
    """Read the annotations of all listed videos, ``(T, C)``, and what is wrong with the others."""
    targets: dict[str, NDArray[np.uint8]] = {}
    problems: list[str] = []
    for subset in _SUBSETS:
        path = files[f"anno_{subset}"]
        content = load_videos(path)
        for name in sessions[subset]:
            fault = _entry_fault(content.get(name), classes)
            if fault is None:
                targets[name] = np.asarray(content[name]["anno"]).astype(np.uint8)
            else:
                problems.append(f"{path.name}: video {name!r}: {fault}")
    return targets, problems


def _entry_fault(entry: Any, classes: int) -> str | None:
    anno = entry.get("anno") if isinstance(entry, dict) else None
    fault = annotation_fault(anno, classes, told="field 'anno'")
    if fault is not None or anno is None:
        return fault
    length = entry.get("feature_length", len(anno))
    if not np.isscalar(length) or length != len(anno):
        return f"field 'feature_length' is {length} but 'anno' has {len(anno)} frames: correct one of them"
    return None


def _rates(path: Path, names: Sequence[str], problems: list[str]) -> dict[str, float]:
    """Read the rates of single videos; what is wrong with them goes to ``problems``."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no object: write {{video: frames a second of its features}}")
    for name, rate in content.items():
        if name not in names:
            problems.append(f"{path.name}: video {name!r} is on no list: correct its name or leave it out")
        elif isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
            problems.append(f"{path.name}: video {name!r}: rate {rate!r}: give the frames a second, a positive number")
    return {name: float(rate) for name, rate in content.items() if isinstance(rate, (int, float))}
