"""Small pickles that announce or build much are refused before they take memory."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from coadtr.data import load_pickle
from coadtr.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def _crafted(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def _array(shape: bytes, dtype: bytes, raw: bytes) -> bytes:
    """Return what NumPy 1 writes for an array, with any shape: a tuple, a dtype code and contents in opcodes."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\nU\x02"
        + dtype
        + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + raw
        + b"tb"
    )


_TRILLION = b"\x8a\x06\x00\x10\xa5\xd4\xe8\x00"
_LIST = b"]q\x01(" + b"N" * 10_000 + b"e0"
BOMBS = {
    "shape without data": (
        _crafted(_array(_TRILLION + b"\x85", b"f4", b"U\x00")),
        r"array of shape \(1000000000000,\) needs 4000000000000 bytes but the pickle holds 0",
    ),
    "rows of width 0": (
        _crafted(_array(_TRILLION + b"K\x00\x86", b"f4", b"U\x00")),
        r"array of shape \(1000000000000, 0\) needs 0 bytes but the pickle holds 0: do not use this file",
    ),
    "objects without objects": (
        _crafted(_array(_TRILLION + b"\x85", b"O8", b"]")),
        r"needs 1000000000000 objects but the pickle holds 0",
    ),
    "negative size": (_crafted(_array(b"J\xfb\xff\xff\xff\x85", b"f4", b"U\x00")), r"shape \(-5,\): no array has that"),
    "contents twice": (
        _crafted(_array(b"K\x01\x85", b"i1", b"U\x01a") + b"(K\x01K\x01\x85NNNtb"),
        "given its contents twice",
    ),
    "place far out": (_crafted(b"Nr\xff\xff\xff\x7f"), "remembers object 3 at place 2147483647"),
    "place far out in text": (_crafted(b"Np4000000000\n"), "remembers object 3 at place 4000000000"),
    "bytes out of nothing": (
        _crafted(b"c__builtin__\nbytearray\nJ\x00\x00\x00\x70\x85R"),
        "asks for 1879048192 empty bytes",
    ),
    "longer than the file": (
        b"\x80\x04\x8e" + (10**12).to_bytes(8, "little") + b"abc.",
        "byte 2 announces 1000000000000 bytes but the file holds 4 more",
    ),
    "frame longer than the file": (
        b"\x80\x04\x95" + (10**12).to_bytes(8, "little") + b"N.",
        "announces 1000000000000 bytes but the file holds 2 more",
    ),
    "copies of a list": (
        _crafted(_LIST + b"(" + b"c__builtin__\nlist\nh\x01\x85R" * 5_000 + b"l"),
        r"the pickle of [0-9]+ bytes builds more than [0-9]+ bytes",
    ),
    "nested copies": (
        _crafted(_LIST + b"h\x01" + b"\x85c__builtin__\ntuple\nh\x01\x85R\x86" * 5_000),
        r"the pickle of [0-9]+ bytes builds more than [0-9]+ bytes",
    ),
    "copies of a text": (
        _crafted(
            b"X"
            + (100_000).to_bytes(4, "little")
            + b"a" * 100_000
            + b"q\x010("
            + b"c_codecs\nencode\nh\x01\x85R" * 1_000
            + b"l"
        ),
        r"the pickle of [0-9]+ bytes builds more than [0-9]+ bytes",
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_pickles_that_would_fill_the_memory(tmp_path: Path, kind: str) -> None:
    content, message = BOMBS[kind]
    path = tmp_path / "bomb.pickle"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as caught:
        load_pickle(path)
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 80_000_000
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{path}: ")
