"""A live stream in the terminal."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from coadtr.live.lag import Spread
    from coadtr.live.pipeline import Answer, Sight, Totals
    from coadtr.live.told import Labels
    from coadtr.runtime import Event

__all__ = ["EventLines", "TerminalView", "summary"]

_TOP: Final = 5
_EVENTS: Final = 6
_REFRESH_HZ: Final = 8


def _milliseconds(spread: Spread) -> str:
    typical = spread.typical()
    return "none" if typical is None else f"{1e3 * typical.median:.1f} ms (95 %: {1e3 * typical.p95:.1f})"


def summary(totals: Totals) -> str:
    """Say in one line what a stream came to.

    Example:
        >>> from coadtr.live.pipeline import Totals
        >>> summary(Totals(frames=48, answers=8, held=1))
        '48 frames, 8 answers (1 held, 0 left out), 0 events; lag none, networks none, step none'
        >>> summary(Totals(frames=48, answers=8, sound=True))
        '48 blocks, 8 answers (0 held, 0 left out), 0 events; lag none, features none, step none'
    """
    spreads = (("lag", totals.lag), ("features" if totals.sound else "networks", totals.look), ("step", totals.step))
    spent = ", ".join(f"{name} {_milliseconds(spread)}" for name, spread in spreads)
    seen = f"{totals.frames:,} {'blocks' if totals.sound else 'frames'}"
    return (
        f"{seen}, {totals.answers:,} answers ({totals.held:,} held, {totals.skipped:,} left out), "
        f"{totals.events:,} events; {spent}"
    )


def _line(event: Event) -> str:
    return f"{event.time:9.2f} s  {event.kind:<5}  {event.class_name}  {event.score:.2f}"


class EventLines:
    """Print a line for each event, after one for the first frame: for a terminal that is none, such as a log.

    Args:
        console: Where to.
        source: What is watched, in words.
    """

    def __init__(self, console: Console, source: str) -> None:
        self._console, self._source = console, source
        self._begun = False

    def answer(self, answer: Answer) -> None:
        """Print its events."""
        self.end(answer.events)

    def frame(self, sight: Sight) -> None:
        """Tell with the first one that there are pictures, or sound."""
        if not self._begun:
            self._begun = True
            does = "listening to" if sight.frame is None else "watching"
            self._console.print(f"{does} {self._source}", markup=False, highlight=False, soft_wrap=True)

    def end(self, events: tuple[Event, ...]) -> None:
        """Print the events that the end brought."""
        for event in events:
            self._console.print(_line(event), markup=False, highlight=False)

    def close(self) -> None:
        """Nothing is held."""


class TerminalView:
    """Show the current action, the highest scores, the last events, and how late they are.

    Args:
        name: The source.
        labels: The classes.
        totals: Counts of the stream, which grow.
        console: Where to.
    """

    def __init__(self, name: str, labels: Labels, totals: Totals, console: Console) -> None:
        self._name, self._labels, self._totals = name, labels, totals
        self._answer: Answer | None = None
        self._time = 0.0
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=_REFRESH_HZ, redirect_stderr=True
        )
        self._live.start()

    def answer(self, answer: Answer) -> None:
        """Show it with the next refresh."""
        self._answer = answer
        self._events.extend(answer.events)

    def frame(self, sight: Sight) -> None:
        """Show how far the video is."""
        self._time = sight.time

    def end(self, events: tuple[Event, ...]) -> None:
        """Show the events that the end brought."""
        self._events.extend(events)

    def close(self) -> None:
        """Leave the last picture of it in the terminal."""
        self._live.stop()

    def _render(self) -> Group:
        head = Text.assemble((self._name, "dim"), "  ", (f"{self._time:.2f} s", "dim"))
        if self._answer is None:
            return Group(head, Text("waiting for the first answer", style="dim"))
        top = self._labels.top(self._answer.scores, _TOP)
        now = Text(f"{top[0].name}  {100 * top[0].score:.0f} %", style="dim" if top[0].background else "bold yellow")
        bars = Table.grid(padding=(0, 1))
        for action in top:
            style = "dim" if action.background else "yellow"
            bar = ProgressBar(total=1.0, completed=min(1.0, action.score), width=32, complete_style=style)
            bars.add_row(escape(action.name), bar, f"{action.score:.3f}")
        lines = [Text(_line(event), style="green" if event.kind == "start" else "dim") for event in tuple(self._events)]
        return Group(head, now, bars, *lines, Text(summary(self._totals), style="dim"))
