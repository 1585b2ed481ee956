"""What an exported file says of itself: how it is fed, what its answers mean, and what a fresh stream remembers."""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.errors import CheckpointError
from coadtr.runtime.gaps import is_finite
from coadtr.scoring import HEADS, Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FORMAT", "KEY", "VERSION", "Description", "Leaf", "describe_streams"]

KEY: Final = "coadtr"  # of the metadata property
FORMAT: Final = "coadtr-onnx"
VERSION: Final = 1
MOST_BYTES: Final = 2**31  # of one array of one stream's state: more is taken for a damaged or hostile file
DTYPES: Final = {name: np.dtype(name).newbyteorder("<") for name in ("float32", "float16", "int64")}


def describe_streams(streams: Mapping[str, int]) -> str:
    """List feature streams with their channels, in order.

    Example:
        >>> describe_streams({"rgb": 2048, "flow": 1024})
        'rgb 2048 + flow 1024'
    """
    return " + ".join(f"{name} {channels}" for name, channels in streams.items()) or "none"


@dataclass(frozen=True, eq=False)
class Leaf:
    """One array of the state.

    Attributes:
        name: Its name, without ``state.`` or ``next.``.
        fresh: Its value for one stream that has seen no frame, without the stream dimension.

    Example:
        >>> Leaf("frames", np.zeros((), np.int64)).layout
        {'name': 'frames', 'shape': [], 'dtype': 'int64'}
    """

    name: str
    fresh: NDArray[Any]

    @property
    def layout(self) -> dict[str, Any]:
        """Name, shape and dtype of one stream's array, JSON-ready."""
        return {"name": self.name, "shape": list(self.fresh.shape), "dtype": self.fresh.dtype.name}


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """Describe what steps streams: enough to feed it, and to read its answers.

    Attributes:
        class_names: The C class names, in the order of the answers.
        background: Index of the class that stands for "no action", or None.
        ignored: Index of the class that is never scored, or None.
        streams: Name and channels of each feature stream, in the order in which they are joined to D channels.
        rate_hz: Frames a second that the model was trained on.
        head: What makes scores of logits: ``"softmax"``, or ``"sigmoid"`` for frames with several classes at once.
        state: The arrays of the state, in order.
        source: Where the weights come from; ``weights_sha256`` is their digest, by which a snapshot knows them.
        precision: Of the weights: ``"float32"``, ``"float16"``, ``"int8"``, ...
        extractors: What made the features of each stream (``backbone``, ``weights``, ...), as far as it is known.

    Raises:
        CheckpointError: If a value is of a wrong kind, out of range, or at odds with another.

    Example:
        >>> description = Description(
        ...     class_names=("rest", "lift"), background=0, ignored=None, streams={"rgb": 3, "flow": 2}, rate_hz=5.0,
        ...     head="softmax", state=(Leaf("mean", np.zeros(4, np.float32)),), source={"weights_sha256": "ab12"},
        ... )
        >>> description.input_dim, description.digest, description.precision
        (5, 'ab12', 'float32')
    """

    class_names: tuple[str, ...]
    background: int | None
    ignored: int | None
    streams: dict[str, int]
    rate_hz: float
    head: Head
    state: tuple[Leaf, ...]
    source: dict[str, Any]
    precision: str = "float32"
    extractors: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names, classes = self.class_names, len(self.class_names)
        _require(bool(names) and all(_is_name(name) for name in names), "classes", names, "one name for each class")
        _require(len(set(names)) == classes, "classes", names, "another name for each class")
        for role in ("background", "ignored"):
            index = getattr(self, role)
            _require(index is None or (_is_count(index) and index < classes), role, index, "the index of a class")
        _require(self.ignored is None or classes > 1, "ignored", self.ignored, "a class that leaves others")
        channels = self.streams.values()
        _require(bool(self.streams) and all(map(_is_name, self.streams)), "streams", self.streams, "a name for each")
        _require(all(_is_count(count) and count > 0 for count in channels), "streams", self.streams, "channels above 0")
        _require(_is_rate(self.rate_hz), "rate_hz", self.rate_hz, "a finite number above 0")
        _require(self.head in HEADS, "head", self.head, f"one of {', '.join(HEADS)}")
        leaves = [leaf.name for leaf in self.state]
        _require(len(set(leaves)) == len(leaves), "state", leaves, "another name for each array")
        _require(_is_name(self.source.get("weights_sha256")), "source", self.source, "weights_sha256, a text")
        _require(_is_name(self.precision), "precision", self.precision, "a name")
        _require(_are_texts(self.extractors), "extractors", self.extractors, "texts by stream")

    @property
    def input_dim(self) -> int:
        """Channels D of one frame, all feature streams joined."""
        return sum(self.streams.values())

    @property
    def digest(self) -> str:
        """SHA-256 of the weights that the file was made of."""
        return str(self.source["weights_sha256"])

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Read the metadata property of an exported ONNX file.

        Args:
            text: A JSON object, as the export writes it.

        Raises:
            CheckpointError: If it is not JSON, of another format or version, or a value of it is not what it should be.

        Example:
            >>> Description.from_json('{"format": "other"}')
            Traceback (most recent call last):
                ...
            coadtr.errors.CheckpointError: format is 'other', not 'coadtr-onnx'; give a file that `coadtr export` wrote
        """
        values = _read_object(text)
        if values.get("format") != FORMAT:
            raise CheckpointError(
                f"format is {values.get('format')!r}, not {FORMAT!r}; give a file that `coadtr export` wrote"
            )
        version = values.get("version")
        if isinstance(version, bool) or version != VERSION:
            raise CheckpointError(f"version is {version!r}, this coadtr reads {VERSION}; export the checkpoint again")
        spec, source = (_expect(values, name, dict) for name in ("spec", "source"))
        return cls(
            class_names=tuple(_expect(spec, "classes", list)),
            background=spec.get("background"),
            ignored=spec.get("ignored"),
            streams=_read_streams(_expect(spec, "streams", list)),
            rate_hz=spec.get("rate_hz", math.nan),
            head=spec.get("head", ""),
            state=tuple(_read_leaf(entry) for entry in _expect(values, "state", list)),
            source=source,
            precision=values.get("precision", ""),
            extractors=spec.get("extractors", {}),
        )


def _require(holds: bool, what: str, value: object, wanted: str) -> None:
    if not holds:
        raise CheckpointError(f"{what} must be {wanted}, got {value!r}; export the checkpoint again")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float)) and is_finite(value) and value > 0


def _are_texts(values: object) -> bool:
    return isinstance(values, dict) and all(
        isinstance(part, dict) and all(isinstance(text, str) for text in part.values()) for part in values.values()
    )


def _read_object(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the description is not JSON ({error}); export the checkpoint again") from error
    _require(isinstance(values, dict), "the description", type(values).__name__, "a JSON object")
    return dict(values)


def _expect(values: Mapping[str, Any], name: str, kind: type) -> Any:
    found = values.get(name)
    _require(isinstance(found, kind), name, found, f"a {kind.__name__}")
    return found


def _read_streams(entries: Sequence[Any]) -> dict[str, int]:
    streams: dict[str, int] = {}
    for entry in entries:
        right = isinstance(entry, dict) and set(entry) == {"name", "channels"} and isinstance(entry["name"], str)
        _require(right, "streams", entry, "a list of objects with name and channels")
        _require(entry["name"] not in streams, "streams", entry, "listed once each")
        streams[entry["name"]] = entry["channels"]
    return streams


def _read_leaf(entry: Any) -> Leaf:
    """Read an array of the state, which is given by one number for all of it or by compressed bytes."""
    _require(isinstance(entry, dict) and _is_name(entry.get("name")), "state", entry, "a list of named arrays")
    what, shape, dtype = f"state {entry['name']!r}", entry.get("shape"), entry.get("dtype")
    _require(isinstance(dtype, str) and dtype in DTYPES, what, dtype, f"of one of {', '.join(DTYPES)}")
    known = isinstance(shape, list) and len(shape) <= 16 and all(map(_is_count, shape))
    size, kind = math.prod(shape) if known else 0, DTYPES[dtype]
    _require(known and size * kind.itemsize <= MOST_BYTES, what, shape, "of a shape that a stream can have")
    if "fill" in entry:
        fill = entry["fill"]
        whole = isinstance(fill, int) and not isinstance(fill, bool) and abs(fill) < 2**63
        _require(whole or (isinstance(fill, float) and kind.kind == "f"), what, fill, f"filled with a {dtype}")
        with np.errstate(over="ignore"):
            fresh = np.full(shape, fill, kind)
    else:
        fresh = np.frombuffer(_unpack(entry.get("values"), size * kind.itemsize, what), kind).reshape(shape)
    fresh = fresh.astype(kind.newbyteorder("="))
    fresh.flags.writeable = False  # all fresh streams share it
    return Leaf(entry["name"], fresh)


def _unpack(values: object, size: int, what: str) -> bytes:
    """Undo base64 and zlib, and make no more than ``size`` bytes of what may be anything."""
    try:
        packed = base64.b64decode(values if isinstance(values, str) else "", validate=True)
        raw = zlib.decompressobj().decompress(packed, size + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise CheckpointError(f"{what} holds damaged values ({error}); export the checkpoint again") from error
    if len(raw) != size:
        found = f"{len(raw)} bytes, not {size}" if len(raw) < size else f"more than {size} bytes"
        raise CheckpointError(f"{what} holds {found}; export the checkpoint again")
    return raw
