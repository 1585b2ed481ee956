"""Read the list file that OAD repositories share: class names, and the videos to train and test on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coadtr.data.importers.problems import raise_problems
from coadtr.data.sources.json_files import read_json
from coadtr.data.storage import schema
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LIST_NAMES", "SessionLists", "find_lists", "read_lists"]

LIST_NAMES = ("data_info.json", "data_info_new.json", "video_list.json", "video_list_fineaction.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLists:
    """What a list file says about one data set.

    Attributes:
        dataset: Its key in the file.
        class_names: The C class names, in the order of the class indices.
        train: Videos to train on.
        test: Videos to test on.
        rate_hz: Frames a second of the features, where the file says it.
        ignored: Index of the class that is not scored, where the file names one that is not the background.
        background: Index of the class named background, whatever its case, or none.
    """

    dataset: str
    class_names: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    rate_hz: float | None
    ignored: int | None
    background: int | None

    def index_of(self, name: str) -> int | None:
        """Return the index of the class of that name, whatever its case, or none."""
        lowered = [known.strip().lower() for known in self.class_names]
        return lowered.index(name.lower()) if name.lower() in lowered else None


def find_lists(source: Path, given: str | None) -> Path:
    """Return the list file of a source.

    Args:
        source: Folder to import.
        given: Path of the file, in or below the folder or from here; none looks for the published names (`LIST_NAMES`)
            in the folder and in the one above it.

    Raises:
        DataError: If there is none.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "video_list.json").write_text("{}")
        >>> find_lists(folder, None).name
        'video_list.json'
    """
    if given is not None:
        places = [source / given, source.parent / given, Path(given)]
    else:
        places = [folder / name for folder in (source, source.resolve().parent) for name in LIST_NAMES]
    for place in places:
        if place.is_file():
            return place
    names = given if given is not None else " or ".join(LIST_NAMES)
    raise DataError(f"{source}: no list file {names}: add it, or name it with info=")


def read_lists(path: Path, dataset: str | None = None, *, fixed: bool = False) -> SessionLists:
    """Read what a list file says about one data set.

    The layout is ``{data set: {'class_names' or 'class_index': [...], 'train_session_set': [...],
    'test_session_set': [...]}}``. LSTR, TeSTra and MAT (``data_info.json``) say ``class_names`` and add
    ``num_classes``, ``ignore_index`` and ``fps``; OadTR (``data_info_new.json``) and MiniROAD (``video_list*.json``)
    say ``class_index``. An ``ignore_index`` that is no class (-100, -1), or the background, ignores nothing.

    Args:
        path: The file.
        dataset: Key of the data set; none if the file holds one only. The case of letters does not matter.
        fixed: Whether a user has no say in that key, so that another file is the only remedy.

    Raises:
        DataError: If the file is not such a list, or lacks a key that is fixed; all that is wrong with it in one
            message.
        ConfigError: If ``dataset`` is not in the file, or must be given.

    Example:
        >>> import json, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "video_list.json"
        >>> entry = {"class_index": ["Background", "Wave"], "train_session_set": ["a"], "test_session_set": ["b"]}
        >>> _ = path.write_text(json.dumps({"MINE": entry}))
        >>> read_lists(path).train, read_lists(path).background
        (('a',), 0)
    """
    key, entry = _choose(path, read_json(path), dataset, fixed)
    problems: list[str] = []
    classes_field = "class_names" if "class_names" in entry else "class_index"
    fields = (classes_field, "train_session_set", "test_session_set")
    names = {field: _names(entry.get(field), f"{key}.{field}", problems) for field in fields}
    classes, train, test = names.values()
    if both := sorted(set(train) & set(test)):
        problems.append(f"videos {listing(both)} are on the train and the test list of {key}: drop them from one")
    for name in (*train, *test):
        try:
            schema.check_name(name, what="video")
        except DataError as error:
            problems.append(str(error))
    if classes and entry.get("num_classes", len(classes)) != len(classes):
        problems.append(
            f"{key}.num_classes is {entry['num_classes']!r} but {classes_field} lists {len(classes)}: correct one"
        )
    rate = _rate(entry, key, problems)
    raise_problems(path, problems)
    background = next((i for i, name in enumerate(classes) if name.strip().lower() == "background"), None)
    ignored = entry.get("ignore_index")
    names_one = isinstance(ignored, int) and 0 <= ignored < len(classes) and ignored != background
    return SessionLists(
        dataset=key,
        class_names=classes,
        train=train,
        test=test,
        rate_hz=rate,
        ignored=ignored if names_one else None,
        background=background,
    )


def _choose(path: Path, content: Any, dataset: str | None, fixed: bool) -> tuple[str, Mapping[str, Any]]:
    """Return the key and entry of the data set."""
    known = [key for key, value in content.items() if isinstance(value, dict)] if isinstance(content, dict) else []
    if not known:
        raise DataError(f"{path}: is not {{data set: {{...}}}}: give the published list file")
    if dataset is None and len(known) > 1:
        raise ConfigError(f"{path}: lists several data sets: choose one with dataset=, out of {listing(known)}")
    wanted = known[0] if dataset is None else dataset
    matches = [key for key in known if key == wanted] or [key for key in known if key.lower() == wanted.lower()]
    if len(matches) != 1 and fixed:
        raise DataError(
            f"{path}: has no data set {wanted!r}, only {listing(known)}: name the list file that has it with info="
        )
    if len(matches) != 1:
        raise ConfigError(f"{path}: has no data set {wanted!r}: choose one with dataset=, out of {listing(known)}")
    return matches[0], content[matches[0]]


def _names(value: object, field: str, problems: list[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        problems.append(f"{field} is not a list of names: give the published list file")
        return ()
    if twice := sorted({item for item in value if value.count(item) > 1}):
        problems.append(f"{field} lists {listing(twice)} twice: drop one")
    return tuple(value)


def _rate(entry: Mapping[str, Any], key: str, problems: list[str]) -> float | None:
    rate = entry.get("fps")
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not (math.isfinite(rate) and rate > 0):
        problems.append(f"{key}.fps is {rate!r}: give the frames a second of the features, a positive number")
        return None
    return float(rate)
