"""Read the annotation text of TVSeries: one action a line, tab-separated, in three files."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from coadtr.data.sources.label_rules import Segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["TEXT_FILES", "Annotation", "find_text", "match_name", "read_text"]

TEXT_FILES: Final = {"train": "GT-train.txt", "validation": "GT-val.txt", "test": "GT-test.txt"}
"""File of each split, as the data set is handed out."""

# Video, class, start and end, and twelve properties that are 0 or 1; a comment may follow.
_FIELDS: Final = 16


class Annotation(NamedTuple):
    """All actions of one video.

    Attributes:
        split: Split whose file it stands in.
        segments: The actions, in seconds.
        rows: File and row of each.
    """

    split: str
    segments: tuple[Segment, ...]
    rows: tuple[str, ...]


def match_name(name: str, known: Sequence[str]) -> int | str:
    """Find a class by its name, whatever its case, blanks and punctuation.

    Args:
        name: Name as a file spells it.
        known: Names of the classes.

    Returns:
        Index of the class, or the most similar name if there is none.

    Example:
        >>> known = ["Kiss", "Get in/out of car", "Throw something"]
        >>> match_name("get_in_out_of_CAR", known), match_name("Throw", known)
        (1, 'Throw something')
    """
    plain = [_plain(candidate) for candidate in known]
    if _plain(name) in plain:
        return plain.index(_plain(name))
    nearest = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.0)
    return known[plain.index(nearest[0])]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def find_text(folder: Path) -> dict[str, Path]:
    """Return those annotation files that a folder has, by split.

    Args:
        folder: Where to look.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> find_text(Path(tempfile.mkdtemp()))
        {}
    """
    return {split: folder / name for split, name in TEXT_FILES.items() if (folder / name).is_file()}


def read_text(
    files: Mapping[str, Path], class_names: Sequence[str], background: int | None
) -> tuple[dict[str, Annotation], list[str]]:
    r"""Read the annotation files.

    Each line is one action. Its fields, separated by tabs, are the video, the class, start and end in seconds,
    and twelve properties that are 0 or 1 (one person, atypical, shot cut, moving camera, small, front, side, unusual
    viewpoint, occluded, truncated, start missing, end missing); a comment may follow. There is no line of titles.
    Source: the readme file of the TVSeries annotations (De Geest et al. 2016).

    Args:
        files: The file of each split.
        class_names: The C class names; names decide, not positions.
        background: Index of the class that no action can have, or none.

    Returns:
        The actions of each video, and what is wrong with the files.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "GT-val.txt"
        >>> _ = path.write_text("24_ep3\tDrink\t1.5\t4\t" + "\t".join("101000000000") + "\tfrom a cup\n")
        >>> read_text({"validation": path}, ["background", "Drink"], 0)[0]["24_ep3"].segments
        (Segment(start=1.5, end=4.0, label=1),)
    """
    found: dict[str, Annotation] = {}
    problems: list[str] = []
    seen: dict[tuple[str, Segment], int] = {}
    for split, path in files.items():
        # Comments are free text of unknown encoding; the fields that are read are plain ASCII.
        lines = path.read_text(encoding="latin-1").split("\n")
        if not any(lines):
            problems.append(f"{path.name}: holds no line: copy it again")
        for row, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            parsed = _parse(line.split("\t"), class_names, background)
            if isinstance(parsed, str):
                problems.append(f"{path.name}: row {row}: {parsed}")
                continue
            name, segment = parsed
            before = found.get(name, Annotation(split, (), ()))
            if before.split != split:
                problems.append(
                    f"{path.name}: row {row}: video {name!r} stands in {TEXT_FILES[before.split]} too: "
                    "drop it from one of them"
                )
                continue
            first = seen.setdefault((name, segment), row)
            if first != row:
                problems.append(f"{path.name}: row {row}: repeats row {first}: drop one of the two")
                continue
            found[name] = Annotation(split, (*before.segments, segment), (*before.rows, f"{path.name}: row {row}"))
    return found, problems


def _parse(fields: Sequence[str], class_names: Sequence[str], background: int | None) -> tuple[str, Segment] | str:
    """Return video and segment of one line, or what is wrong with it."""
    if len(fields) < _FIELDS:
        return (
            f"has {len(fields)} fields: give video, class, start, end and 12 properties, separated by tabs, "
            "and a comment or none"
        )
    name, label = fields[0].strip(), match_name(fields[1], class_names)
    if isinstance(label, str):
        return f"class {fields[1]!r} is not on the list: the nearest known name is {label!r}, correct one of them"
    if label == background:
        return f"class {fields[1]!r} is the background, which no action can have: correct the class"
    times = _times(fields[2], fields[3])
    if isinstance(times, str):
        return times
    wrong = [text for text in fields[4:_FIELDS] if text.strip() not in ("0", "1")]
    if wrong:
        return f"property {wrong[0]!r}: the fields after the end are 12 times 0 or 1"
    return name, Segment(*times, label)


def _times(start_text: str, end_text: str) -> tuple[float, float] | str:
    try:
        start, end = float(start_text), float(end_text)
    except ValueError:
        return f"from {start_text!r} to {end_text!r}: give seconds as numbers (there is no line of titles)"
    if not 0 <= start < end < math.inf:
        return f"from {start:g} to {end:g} s: the end must lie after the start, and neither before 0"
    return start, end
