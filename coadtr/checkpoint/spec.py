"""What a checkpoint says of its model: its settings, what its answers mean, and what it must be fed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from coadtr.errors import ConfigError
from coadtr.models import ModelConfig, config_from_dict
from coadtr.runtime.description import describe_streams
from coadtr.scoring import HEADS, Head
from coadtr.types import TASKS, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CheckpointSpec"]

_FIELDS = ("model", "classes", "background", "ignored", "streams", "rate_hz", "head", "normalisation")
_OPTIONAL = ("extractors", "task")


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec:
    """Describe an exported model: enough to build it, to feed it, and to read its answers.

    Attributes:
        model: Settings of the model.
        class_names: The C class names, in the order of the answers.
        background: Index of the class that stands for "no action", or None.
        ignored: Index of the class that is never scored, or None.
        streams: Name and channels of each feature stream, in the order in which they are joined to D channels.
        rate_hz: Frames a second that the model was trained on.
        head: What makes scores of logits: ``"softmax"``, or ``"sigmoid"`` for frames with several classes at once.
        extractors: What made the features of each stream (``backbone``, ``weights``, ...), as far as it is known.
        task: ``"oad"``: the class of each frame; ``"audio"``: the class of the whole recording, at every frame.

    Raises:
        ConfigError: If a value is out of range or at odds with the model's settings.

    Example:
        >>> from coadtr.models import preset
        >>> spec = CheckpointSpec(
        ...     model=preset("cooadtr_b1", input_dim=60, num_classes=2),
        ...     class_names=("rest", "lift"),
        ...     background=0,
        ...     ignored=None,
        ...     streams={"imu": 60},
        ...     rate_hz=5.0,
        ... )
        >>> spec.normalisation, spec.head
        ('none', 'softmax')
    """

    model: ModelConfig
    class_names: tuple[str, ...]
    background: int | None
    ignored: int | None
    streams: dict[str, int]
    rate_hz: float
    head: Head = "softmax"
    extractors: dict[str, dict[str, str]] = field(default_factory=dict)
    task: Task = "oad"

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, and keep containers of its own."""
        _check_classes(self.class_names, self.model.num_classes)
        object.__setattr__(self, "class_names", tuple(self.class_names))
        for role in ("background", "ignored"):
            _check_index(role, getattr(self, role), len(self.class_names))
        if self.background is not None and self.background == self.ignored:
            raise ConfigError(f"class {self.background} cannot be background and ignored at once: drop one of the two")
        _check_streams(self.streams, self.model.input_dim)
        object.__setattr__(self, "streams", dict(self.streams))
        if not _is_number(self.rate_hz) or not math.isfinite(self.rate_hz) or self.rate_hz <= 0:
            raise ConfigError(f"rate_hz must be a finite number above 0, got {self.rate_hz!r}")
        _check_extractors(self.extractors, self.streams)
        if self.head not in HEADS:
            raise ConfigError(f"head must be one of {', '.join(HEADS)}, got {self.head!r}")
        if self.task not in TASKS:
            raise ConfigError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")

    @property
    def normalisation(self) -> str:
        """``"standardise"`` if the model standardises its input by statistics kept with the weights, or ``"none"``."""
        return "standardise" if self.model.normalise else "none"

    def to_dict(self) -> dict[str, Any]:
        """Write the description as a JSON object; :meth:`from_dict` reads it back."""
        return {
            "model": self.model.to_dict(),
            "classes": list(self.class_names),
            "background": self.background,
            "ignored": self.ignored,
            # A list, because the order counts and JSON objects have none.
            "streams": [{"name": name, "channels": channels} for name, channels in self.streams.items()],
            "rate_hz": self.rate_hz,
            "head": self.head,
            "normalisation": self.normalisation,
            **({"extractors": self.extractors} if self.extractors else {}),
            # Left out where it is the one that there was at first, so that older versions read these checkpoints.
            **({"task": self.task} if self.task != "oad" else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CheckpointSpec:
        """Make a description from a JSON object.

        Args:
            values: What :meth:`to_dict` writes.

        Returns:
            The checked description.

        Raises:
            ConfigError: If a field is missing, unknown, out of range, or at odds with another.
        """
        if missing := [name for name in _FIELDS if name not in values]:
            raise ConfigError(f"the setting {', '.join(missing)} is missing; export the checkpoint again")
        if unknown := [name for name in values if name not in (*_FIELDS, *_OPTIONAL)]:
            raise ConfigError(f"unknown setting {', '.join(unknown)}; remove it, or use a newer coadtr")
        if not isinstance(values["model"], dict):
            raise ConfigError(f"model must be an object of settings, got {values['model']!r}")
        if not isinstance(values["classes"], list):
            raise ConfigError(f"classes must be a list of names, got {values['classes']!r}")
        spec = cls(
            model=_model_config(values["model"]),
            class_names=tuple(values["classes"]),
            background=values["background"],
            ignored=values["ignored"],
            streams=_streams_from_list(values["streams"]),
            rate_hz=values["rate_hz"],
            head=values["head"],
            extractors=values.get("extractors", {}),
            task=values.get("task", "oad"),
        )
        if values["normalisation"] != spec.normalisation:
            raise ConfigError(
                f"normalisation is {values['normalisation']!r}, but the model's setting normalise="
                f"{spec.model.normalise} means {spec.normalisation!r}; make the two agree"
            )
        return spec


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_classes(names: tuple[str, ...], wanted: int) -> None:
    for index, name in enumerate(names):
        if not _is_name(name):
            raise ConfigError(f"class {index} is named {name!r}; give every class a name")
        if name in names[:index]:
            raise ConfigError(f"the class name {name!r} is used twice; give every class its own")
    if len(names) != wanted:
        raise ConfigError(f"{len(names)} class names for a model of {wanted} classes; give one name for each class")


def _check_index(role: str, index: int | None, classes: int) -> None:
    if index is not None and (not _is_index(index) or not 0 <= index < classes):
        raise ConfigError(f"{role} must be the index of a class, 0 to {classes - 1}, or None; got {index!r}")


def _check_streams(streams: Mapping[str, int], input_dim: int) -> None:
    for name, channels in streams.items():
        if not _is_name(name):
            raise ConfigError(f"a feature stream is named {name!r}; give every stream a name")
        if not _is_index(channels) or channels < 1:
            raise ConfigError(f"stream {name!r} must have a whole number of channels above 0, got {channels!r}")
    if sum(streams.values()) != input_dim:
        raise ConfigError(
            f"the model takes {input_dim} channels, the streams ({describe_streams(streams)}) have "
            f"{sum(streams.values())}; make the two agree"
        )


def _check_extractors(extractors: object, streams: Mapping[str, int]) -> None:
    texts = isinstance(extractors, dict) and all(
        isinstance(told, dict) and all(isinstance(text, str) for pair in told.items() for text in pair)
        for told in extractors.values()
    )
    if not texts:
        raise ConfigError(f"extractors must be texts by stream, as {{'rgb': {{'backbone': 'x'}}}}, got {extractors!r}")
    if unknown := [name for name in cast("dict[str, Any]", extractors) if name not in streams]:
        raise ConfigError(f"extractors names the stream {unknown[0]!r}, which the model does not take; remove it")


def _streams_from_list(entries: object) -> dict[str, int]:
    streams: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict) or set(entry) != {"name", "channels"} or not isinstance(entry["name"], str):
            raise ConfigError(f"streams must be a list of objects with name and channels, got {entry!r}")
        if entry["name"] in streams:
            raise ConfigError(f"stream {entry['name']!r} is listed twice; give every stream its own name")
        streams[entry["name"]] = entry["channels"]
    return streams


def _model_config(values: dict[str, Any]) -> ModelConfig:
    try:
        return config_from_dict(values)
    except TypeError as error:  # a value of a type that its check does not compare
        raise ConfigError(f"the model's settings hold a value of a wrong type ({error})") from error
