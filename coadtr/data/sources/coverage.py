"""Tell which segments and classes come to no frame: what is shorter than a frame leaves no trace in the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coadtr.data.sources.label_rules import frame_span
from coadtr.data.storage.schema import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coadtr.data.sources.label_rules import Segment

__all__ = ["Coverage"]

_MOST_TOLD: Final = 5


class Coverage:
    """What the segments of a data set come to in frames, as far as their times tell.

    Args:
        class_names: The C class names.
        rule: Which frames a segment covers, one of `coadtr.data.sources.label_rules.LABEL_RULES`.
        unneeded: Classes that need no segment: the background, and what is not scored.

    Example:
        >>> from coadtr.data.sources.label_rules import Segment
        >>> coverage = Coverage(["cut", "mix"], rule="centre")
        >>> coverage.add("salad", [Segment(0.0, 2.0, label=0)], rate_hz=4.0)
        >>> coverage.warnings()
        ["no frame has the class 'mix': it cannot be learnt, leave it out or add segments of it"]
    """

    def __init__(self, class_names: Sequence[str], *, rule: str, unneeded: Iterable[int | None] = ()) -> None:
        self._class_names, self._rule = class_names, rule
        self._seen: set[int | None] = set(unneeded)
        self._total = 0
        self._lost: list[str] = []
        self._early: list[str] = []

    def add(
        self,
        video: str,
        segments: Sequence[Segment],
        *,
        rate_hz: float,
        names: Sequence[str] = (),
        offset_s: float = 0.0,
    ) -> None:
        """Note the segments of one video.

        Args:
            video: Its name.
            segments: The segments, in seconds.
            rate_hz: Frames a second.
            names: What messages call the segments, such as their rows in a table; none for their times alone.
            offset_s: Seconds at which frame 0 begins, as `frame_labels` takes it.
        """
        for name, (start, end, label) in zip(names or [""] * len(segments), segments, strict=True):
            first, stop = frame_span(start - offset_s, end - offset_s, rate_hz=rate_hz, rule=self._rule)
            self._total += 1
            if stop > max(first, 0):
                self._seen.add(label)
            else:
                where = f"{name}, video {video!r}" if name else f"video {video!r}"
                told = self._lost if end > offset_s else self._early
                told.append(f"{where}, {start:g} to {end:g} s, {self._class_names[label]!r}")

    def warnings(self) -> list[str]:
        """Return what a user should know of segments and classes without frames; empty if all have some."""
        found = []
        if self._lost:
            found.append(
                f"{len(self._lost)} of {self._total} segments are shorter than a frame and cover none "
                f"(rule {self._rule}): {_some(self._lost)}: use features at a higher rate, or another rule"
            )
        if self._early:
            found.append(
                f"{len(self._early)} of {self._total} segments are over before the first frame begins and cover none: "
                f"{_some(self._early)}: use features that are made of less time"
            )
        without = [name for index, name in enumerate(self._class_names) if index not in self._seen]
        if len(without) == 1:
            found.append(
                f"no frame has the class {without[0]!r}: it cannot be learnt, leave it out or add segments of it"
            )
        elif without:
            found.append(
                f"no frame has the classes {listing(without)}: they cannot be learnt, "
                "leave them out or add segments of them"
            )
        return found


def _some(told: Sequence[str]) -> str:
    rest = len(told) - _MOST_TOLD
    return f"{'; '.join(told[:_MOST_TOLD])}{f'; and {rest} more' if rest > 0 else ''}"
