"""Import the folders of LSTR, TeSTra, MAT, MiniROAD and CMeRT: one ``.npy`` file per video and stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.importers.problems import raise_problems
from coadtr.data.importers.session_lists import SessionLists, find_lists, read_lists
from coadtr.data.sources.feature_files import FeatureFile
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.splits import choose_validation
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["extractor_of", "plan_lstr"]

_RATE_HZ: Final = 4.0
_MODALITIES: Final = ("rgb", "flow")
_UNLABELLED: Final = ("error", "background")


class _Folder:
    """The files of one folder by video: names out of lists are looked up, and never become paths."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = {file.stem: file for file in path.iterdir() if file.suffix == ".npy" and file.is_file()}

    def file(self, video: str) -> Path:
        """Return the file of one video."""
        if video not in self.files:
            raise DataError(f"no file {self.path.name}/{video}.npy: add it, or take the video off the list")
        return self.files[video]


@dataclass(frozen=True, slots=True)
class _Tree:
    """The folders of a source and how their files are read."""

    streams: Mapping[str, _Folder]
    targets: _Folder
    classes: int
    background: int | None
    unlabelled: str

    @property
    def folders(self) -> tuple[_Folder, ...]:
        """Folders of the streams, then that of the labels."""
        return (*self.streams.values(), self.targets)

    def read(self, name: str) -> VideoArrays:
        """Map the features of one video into memory, and read its labels."""
        arrays = {stream: _open(folder.file(name)) for stream, folder in self.streams.items()}
        return arrays, self._labels(self.targets.file(name))

    def _labels(self, path: Path) -> NDArray[np.uint8]:
        field, targets = f"{path.parent.name}/{path.name}", _open(path)
        if targets.shape[1] != self.classes:
            raise DataError(
                f"{field} has shape {targets.shape}: "
                f"give (T, {self.classes}) zeros and ones, or choose another data set of the list with dataset="
            )
        wrong = np.argwhere((targets != 0) & (targets != 1))
        if wrong.size:
            frame, column = wrong[0]
            raise DataError(
                f"{field} has value {targets[frame, column]} at frame {frame}, class {column}: give zeros and ones"
            )
        labels = targets.astype(np.uint8)
        if self.background is not None:
            empty = np.flatnonzero(labels.sum(axis=1) == 0)
            if empty.size and self.unlabelled == "error":
                raise DataError(
                    f"{field} has no class at frame {empty[0]}: label it, or say unlabelled=background for such frames"
                )
            labels[empty, self.background] = 1
        return labels


def plan_lstr(
    source: Path,
    *,
    info: str | None = None,
    dataset: str | None = None,
    streams: Mapping[str, str] | None = None,
    targets: str = "target_perframe",
    rate_hz: float | None = None,
    validation_fraction: float = 0.15,
    seed: int = 0,
    background: str | None = None,
    ignored: str | None = None,
    unlabelled: str = "error",
) -> ImportPlan:
    """Plan the import of per-video ``.npy`` files as LSTR and its successors share them.

    Folders of the source: ``rgb_<weights>_<backbone>/<video>.npy`` and ``flow_<weights>_<backbone>/<video>.npy``,
    features ``(T, D)``, and ``target_perframe/<video>.npy``, ``(T, C)`` zeros and ones in any numeric type. A list
    file names classes and videos (see `read_lists` for the variants): ``train_session_set`` gives the train and
    validation splits, ``test_session_set`` the test split, and videos on neither list are left out. Works for
    THUMOS14, TVSeries, EPIC-Kitchens-100, FineAction and any other set in that form. Nothing is unpickled.

    Args:
        source: Folder that holds the folders.
        info: List file; none looks for the published names in ``source`` and the folder above it.
        dataset: Key of the data set in the list file; may be left out if there is only one.
        streams: Folder of each stream; none takes the one folder ``rgb_*`` and the one folder ``flow_*``.
        targets: Folder of the labels.
        rate_hz: Frames a second; none takes the list file's ``fps``, or 4.0 (24 video frames a second, one feature
            for 6 of them).
        validation_fraction: Part of the training videos set aside for validation; at least one is, so 0 is refused.
        seed: Seed of that choice.
        background: Name of the class that stands for "no action"; none takes that named background, if there is one.
        ignored: Name of the class that is not scored; none takes the list file's ``ignore_index``, or the class
            named ambiguous, if there is one.
        unlabelled: What a frame without any class is, where there is a background class: an ``error``, or
            ``background``.

    Returns:
        The plan.

    Raises:
        DataError: If the list file or the folders cannot be found or read.
        ConfigError: If an option is unknown, out of range, or must be given.

    Example:
        >>> from pathlib import Path
        >>> plan_lstr(Path("no_such_folder"))
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_folder: no such folder: give the one that holds target_perframe as source
    """
    if unlabelled not in _UNLABELLED:
        raise ConfigError(f"unlabelled={unlabelled!r}: use one of {listing(_UNLABELLED)}")
    if rate_hz is not None:
        check_rate("rate_hz", rate_hz)
    if not source.is_dir():
        raise DataError(f"{source}: no such folder: give the one that holds {targets} as source")
    path = find_lists(source, info)
    lists = read_lists(path, dataset)
    folders = _find_folders(source, streams, targets)
    # Of other sets it is not known by what rule their labels were made.
    by_lstr = lists.dataset.lower() in ("thumos", "tvseries")
    no_action = _class_named(lists, background, "background", lists.background)
    left_out = _class_named(lists, ignored, "ignored", _default_ignored(lists))
    held = {stream: _Folder(folder) for stream, folder in folders.items()}
    tree = _Tree(held, _Folder(source / targets), len(lists.class_names), no_action, unlabelled)
    validation = choose_validation(lists.train, fraction=validation_fraction, seed=seed)
    rate, problems, videos, files = rate_hz or lists.rate_hz or _RATE_HZ, [], [], [path]
    widths: dict[str, Counter[int]] = {stream: Counter() for stream in folders}
    for name in (*lists.train, *lists.test):
        faults = _look(tree, name, widths)
        problems += [f"video {name!r}: {fault}" for fault in faults]
        if faults:
            continue
        split = "test" if name in lists.test else "validation" if name in validation else "train"
        videos.append(PlannedVideo(name=name, split=split, rate_hz=rate, read=partial(tree.read, name)))
        files += [folder.file(name) for folder in tree.folders]
    return ImportPlan(
        source=source,
        class_names=lists.class_names,
        background=no_action,
        ignored=left_out,
        # The width that most videos have: those of another are named by the import.
        streams={stream: (count.most_common(1) or [(1, 0)])[0][0] for stream, count in widths.items()},
        attributes={
            "origin": f"{lists.dataset} features in the LSTR layout: "
            + ", ".join(folder.name for folder in folders.values()),
            "label_rule": f"published per-frame labels ({targets}{', made by rule lstr' * by_lstr})",
            "rate_rule": f"one rate for all videos, {rate:g} Hz ({_told_rate(rate_hz, lists)})",
            "extractors": {stream: made for stream, folder in folders.items() if (made := extractor_of(folder.name))},
            "validation": {"fraction": validation_fraction, "seed": seed, "videos": sorted(validation)},
        },
        videos=tuple(videos),
        files=tuple(files),
        problems=tuple(problems),
        warnings=tuple(_warnings(tree, {*lists.train, *lists.test})),
    )


def _find_folders(source: Path, streams: Mapping[str, str] | None, targets: str) -> dict[str, Path]:
    """Return the folder of each stream; raise what is wrong with them, and with that of the labels."""
    problems = [] if (source / targets).is_dir() else [f"no folder {targets}: add it, or name it with targets="]
    found: dict[str, Path] = {}
    if streams is not None:
        if not hasattr(streams, "items") or not streams:
            raise ConfigError(f"streams={streams!r}: name the folder of each stream, as {{rgb: rgb_kinetics_resnet50}}")
        found = {str(stream): source / str(folder) for stream, folder in streams.items()}
        problems += [
            f"no folder {folder.name} for stream {stream!r}: add it, or correct streams="
            for stream, folder in found.items()
            if not folder.is_dir()
        ]
        raise_problems(source, problems)
        return found
    for modality in _MODALITIES:
        folders = sorted(folder for folder in source.glob(f"{modality}_*") if folder.is_dir())
        if len(folders) > 1:
            problems.append(
                f"several folders for stream {modality!r} ({listing(folder.name for folder in folders)}): "
                f"choose with streams, as {{{modality}: {folders[0].name}}}"
            )
        if folders:
            found[modality] = folders[0]
    if not found:
        problems.append("no folder rgb_* or flow_*: add the features, or name their folders with streams=")
    raise_problems(source, problems)
    return found


def _class_named(lists: SessionLists, name: str | None, role: str, default: int | None) -> int | None:
    if name is None:
        return default
    index = lists.index_of(name)
    if index is None:
        raise ConfigError(f"{role}={name!r}: {lists.dataset} has no such class: it has {listing(lists.class_names)}")
    return index


def _default_ignored(lists: SessionLists) -> int | None:
    return lists.ignored if lists.ignored is not None else lists.index_of("ambiguous")


def _told_rate(given: float | None, lists: SessionLists) -> str:
    if given is not None:
        return "given by the user"
    return "24 video frames a second, one feature for 6" if lists.rate_hz is None else "the list file's fps"


def extractor_of(folder: str) -> dict[str, str] | None:
    """Return backbone and weights that a folder such as ``rgb_kinetics_resnet50`` is named after, if it is.

    Args:
        folder: Name of the folder.

    Example:
        >>> extractor_of("flow_nv_kinetics_bninception"), extractor_of("features")
        ({'backbone': 'bninception', 'weights': 'nv_kinetics'}, None)
    """
    modality, *weights = folder.split("_")
    if modality not in _MODALITIES or len(weights) < 2:
        return None
    return {"backbone": weights[-1], "weights": "_".join(weights[:-1])}


def _look(tree: _Tree, name: str, widths: Mapping[str, Counter[int]]) -> list[str]:
    """Return what the headers of the files of one video show to be wrong; count the widths of its features."""
    faults: list[str] = []
    found: dict[Path, int] = {}
    for folder in tree.folders:
        try:
            found[folder.path] = _open(folder.file(name)).shape[1]
        except DataError as error:
            faults.append(str(error))
    if not faults:
        # Streams come before the labels.
        for stream, width in zip(tree.streams, found.values(), strict=False):
            widths[stream][width] += 1
    return faults


def _open(path: Path) -> NDArray[Any]:
    """Map an array into memory; its header is held against the size of the file first."""
    try:
        return FeatureFile(path).read()
    except DataError as error:
        raise type(error)(f"{path.parent.name}/{error}") from error


def _warnings(tree: _Tree, listed: Iterable[str]) -> list[str]:
    missing = [modality for modality in _MODALITIES if modality not in tree.streams]
    found = [f"no {modality} features: the store has none" for modality in missing]
    others = sorted(set(tree.targets.files) - set(listed))
    if others:
        found.append(f"{len(others)} videos are on neither list and left out: {listing(others)}")
    return found
