"""Look through a pickle without running it: is it whole, and what does it ask for.

What is found here is refused early and cheaply, before anything is built; large contents are stepped over, not
read. The last word has the unpickler (`coadtr.data.sources.safe_pickle`), which a crafted file cannot lead astray.
"""

from __future__ import annotations

import pickle
import pickletools
from typing import BinaryIO, Final

from coadtr.errors import DataError

__all__ = ["scan_pickle"]

_OPCODES: Final = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_REMEMBER: Final = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_RECALL: Final = frozenset({"GET", "BINGET", "LONG_BINGET"})
_TEXTS: Final = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
# How an argument gives its own length: bytes of the length, and whether it is signed.
_LENGTHS: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
    pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
    pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
    pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}
_LONGEST_NAME: Final = 255


def scan_pickle(file: BinaryIO) -> set[tuple[str, str]]:
    """Walk over the instructions of a pickle, and leave the file where it was.

    Args:
        file: Open file, at the start of the pickle.

    Returns:
        Module and name of what the pickle asks for, as far as they stand in it plainly.

    Raises:
        pickle.UnpicklingError: If the pickle is cut short or announces more than the file holds.
        DataError: If it wants to remember an object at a place that only serves to fill the memory.

    Example:
        >>> import io
        >>> scan_pickle(io.BytesIO(pickle.dumps([1, complex(2, 3)])))
        {('builtins', 'complex')}
        >>> scan_pickle(io.BytesIO(pickle.dumps(b"data" * 99)[:-50]))
        Traceback (most recent call last):
        _pickle.UnpicklingError: byte 2 announces 403 bytes but the file holds 353 more
    """
    start = file.tell()
    end = file.seek(0, 2)
    file.seek(start)
    try:
        return _Walk(file, start, end).names()
    finally:
        file.seek(start)


class _Walk:
    """One way through a pickle."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end
        self._at = self._done = 0
        self._found: set[tuple[str, str]] = set()
        # The two texts on top of the stack, which name what protocol 4 asks for; none where it is no text.
        self._texts: tuple[str | None, str | None] = (None, None)
        self._memo: dict[int, str | None] = {}
        self._remembered = 0

    def names(self) -> set[tuple[str, str]]:
        """Walk to the end."""
        while True:
            self._at = self._file.tell() - self._start
            code = self._file.read(1)
            opcode = _OPCODES.get(code[0]) if code else None
            if opcode is None:
                told = (
                    f"unknown instruction {code!r} at byte {self._at}"
                    if code
                    else "the file ends before the pickle does"
                )
                raise pickle.UnpicklingError(told)
            if opcode.name == "STOP":
                return self._found
            self._done += 1
            self._follow(opcode.name, self._argument(opcode.name, opcode.arg.n) if opcode.arg else b"")

    def _argument(self, name: str, size: int) -> bytes:
        """Read the argument of an instruction, or step over it if it is large."""
        if size == pickletools.UP_TO_NEWLINE:
            line = self._file.readline()
            return line + self._file.readline() if name in ("GLOBAL", "INST") else line
        if size in _LENGTHS:
            width, signed = _LENGTHS[size]
            length = int.from_bytes(self._file.read(width), "little", signed=signed)
            self._check_length(length)
            if name in _TEXTS and length <= _LONGEST_NAME:
                return self._file.read(length)
            self._file.seek(length, 1)
            return b""
        argument = self._file.read(size)
        if name == "FRAME":
            self._check_length(int.from_bytes(argument, "little"))
        return argument

    def _check_length(self, length: int) -> None:
        left = self._end - self._file.tell()
        if not 0 <= length <= left:
            raise pickle.UnpicklingError(f"byte {self._at} announces {length} bytes but the file holds {left} more")

    def _follow(self, name: str, argument: bytes) -> None:
        """Note what an instruction does to texts, memory and names."""
        if name in _REMEMBER or name == "MEMOIZE":
            place = self._remembered if name == "MEMOIZE" else _number(name, argument)
            # Objects are remembered one after the other; Python makes its table as long as the highest place.
            if not 0 <= place <= self._done + 64:
                raise DataError(f"the pickle remembers object {self._done} at place {place}: do not use this file")
            self._remembered += 1
            self._memo[place] = self._texts[1]
            return
        if name == "STACK_GLOBAL" and None not in self._texts:
            self._found.add((str(self._texts[0]), str(self._texts[1])))
        if name in ("GLOBAL", "INST"):
            module, _, attribute = argument.decode("utf-8", "replace").partition("\n")
            self._found.add((module.strip(), attribute.strip()))
        if name != "FRAME":
            text = argument.decode("utf-8", "replace") if name in _TEXTS else None
            self._texts = (self._texts[1], self._memo.get(_number(name, argument)) if name in _RECALL else text)


def _number(name: str, argument: bytes) -> int:
    return int(argument) if name in ("PUT", "GET") else int.from_bytes(argument, "little")
