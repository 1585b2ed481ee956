"""The streams that a detector holds: who there is, and what is known of each, changed all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.errors import ConfigError, DataError
from coadtr.runtime.memory import pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coadtr.runtime.memory import Stream

__all__ = ["StreamTable"]


class StreamTable:
    """Hold streams by name. Not thread-safe: the detector has the lock.

    Args:
        fresh: A stream that has seen no frame.
        most: Most streams at a time, or None for no limit.

    Raises:
        ConfigError: If ``most`` is not a whole number above 0.

    Example:
        >>> from coadtr.runtime.memory import Block, Stream
        >>> table = StreamTable(Stream(Block([], 1), 0), most=1)
        >>> table.commit({"door": table.find("door")})
        >>> list(table.known)
        ['door']
        >>> table.find("yard")
        Traceback (most recent call last):
            ...
        coadtr.errors.ConfigError: 1 streams are open, and max_streams=1; close one, or raise the limit
    """

    def __init__(self, fresh: Stream, most: int | None = None) -> None:
        if most is not None and most < 1:
            raise ConfigError(f"max_streams must be a whole number above 0, or None, got {most!r}")
        self.fresh = fresh
        self.known: dict[str, Stream] = {}
        self._most = most

    def find(self, name: str, *, beside: int = 0) -> Stream:
        """Return a stream that there is, or a fresh one.

        Args:
            name: Of the stream.
            beside: New streams that are to begin with it.

        Raises:
            DataError: If the name is not a text.
            ConfigError: If it would be one too many.
        """
        _require_text(name)
        stream = self.known.get(name)
        if stream is None:
            self.require_room(beside + 1)
            return self.fresh
        return stream

    def require_room(self, new: int) -> None:
        """Refuse so many new streams if there is no room for them."""
        if self._most is not None and new and len(self.known) + new > self._most:
            raise ConfigError(
                f"{len(self.known)} streams are open, and max_streams={self._most}; close one, or raise the limit"
            )

    def commit(self, after: Mapping[str, Stream]) -> None:
        """Make some streams what they are now: all of them at once, whatever interrupts."""
        before = [self.known[name] for name in after if name in self.known]
        self.known.update(after)
        for stream in after.values():
            stream.block.live += 1
        self._leave(before)

    def close(self, name: str) -> None:
        """Forget a stream, if there is one of that name."""
        gone = self.known.pop(name, None)
        if gone is not None:
            self._leave([gone])

    def _leave(self, before: Sequence[Stream]) -> None:
        """Note that streams left their blocks, and pack what is left where it is little: memory stays bounded."""
        for stream in before:
            stream.block.live -= 1
        thin = {stream.block for stream in before if stream.block.is_thin}
        if thin:
            self.known.update(pack({name: stream for name, stream in self.known.items() if stream.block in thin}))


def _require_text(name: object) -> None:
    if not isinstance(name, str):
        raise DataError(f"the name of a stream must be a text, got {name!r}; give its str")
