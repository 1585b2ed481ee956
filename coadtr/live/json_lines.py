"""A live stream as JSON lines: an object for each answer, and one at the end."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from coadtr.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coadtr.live.pipeline import Answer, Sight
    from coadtr.runtime import Event

__all__ = ["JsonLines"]


class JsonLines:
    """Write a line for each answer, as soon as it is there.

    A line has ``frame``, ``time`` (seconds of the video), ``scores`` by class, ``events``, ``lag``, ``look`` and
    ``step`` (seconds), and ``held``. The last one has ``end`` (answers given) and the ``events`` that the end brought.
    Each line is whole, so a file can be read while it grows: it is a log, and not written under another name first.

    Args:
        path: File, or ``-`` for standard output.
        class_names: Names of the C classes, in the order of the scores.

    Raises:
        StorageError: If the file cannot be written.
    """

    def __init__(self, path: str | Path, class_names: Sequence[str]) -> None:
        self._names = tuple(class_names)
        self._path = Path(path)
        self._answers = 0
        self._stack = ExitStack()
        self._file: TextIO | None = sys.stdout if str(path) == "-" else None
        # What is there stays until there is something to write in its place: the source may not open.
        if self._file is None and (self._path.is_dir() or not self._path.absolute().parent.is_dir()):
            raise StorageError(f"{path}: cannot be written: name a file in a folder that is there")

    def answer(self, answer: Answer) -> None:
        """Write the line of an answer."""
        self._answers = answer.frame + 1
        self._write(
            {
                "frame": answer.frame,
                "time": round(answer.time, 6),
                "scores": {
                    name: round(float(score), 6) for name, score in zip(self._names, answer.scores, strict=True)
                },
                "events": _events(answer.events),
                "lag": round(answer.lag, 6),
                "look": round(answer.look_seconds, 6),
                "step": round(answer.step_seconds, 6),
                "held": answer.held,
            }
        )

    def frame(self, sight: Sight) -> None:
        """Pictures have no line."""

    def end(self, events: tuple[Event, ...]) -> None:
        """Write the last line."""
        self._write({"end": self._answers, "events": _events(events)})

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _write(self, line: dict[str, Any]) -> None:
        try:
            if self._file is None:
                file = self._path.open("w", encoding="utf-8")
                self._file = self._stack.enter_context(file)
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()
        except BrokenPipeError:
            # Python flushes once more when it ends, and would complain about it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StorageError("standard output was closed by who read it: the stream ends") from None
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written on ({error.strerror}); make room there") from error


def _events(events: Sequence[Event]) -> list[dict[str, Any]]:
    return [
        {"kind": event.kind, "class": event.class_name, "time": round(event.time, 6), "score": round(event.score, 6)}
        for event in events
    ]
