"""From composed settings to plain values of the kinds that the commands take."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from coadtr.cli.messages import explain
from coadtr.cli.naming import named_in_full
from coadtr.errors import ConfigError

__all__ = [
    "a_path",
    "command_line",
    "counts",
    "fill",
    "group",
    "names",
    "new_store",
    "of_kind",
    "one_of",
    "plain",
    "require",
    "text",
    "watched",
    "whether",
    "whole",
]

RecordT = TypeVar("RecordT")
ChoiceT = TypeVar("ChoiceT")
KindT = TypeVar("KindT", bool, int, float, str)

KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text (quote what reads as a number)"),
}


def plain(settings: DictConfig) -> dict[str, Any]:
    """Resolve composed settings into dicts, lists and plain values.

    Raises:
        ConfigError: If a value that the user has to give is missing, or one refers to a setting that does not exist.
    """
    try:
        resolved: dict[str, Any] = OmegaConf.to_container(settings, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}=... must be given; `{sys.argv[0]} --help` lists the settings") from None
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, command=sys.argv[0], folder=Path())) from error
    return resolved


def require(settings: DictConfig, *wanted: str) -> None:
    """Check that the user gave the settings that have no default.

    Raises:
        ConfigError: If one is missing, naming it.
    """
    for name in wanted:
        if OmegaConf.is_missing(settings, name) or settings.get(name) is None:
            raise ConfigError(f"{name}=... must be given; `{sys.argv[0]} --help` lists the settings")


def of_kind(kind: type[KindT], value: object, name: str) -> KindT:
    """Check that a value is of a kind: bool, int, float (whole numbers too) or str.

    Args:
        kind: The kind.
        value: The value.
        name: Name of the setting, for the message.

    Returns:
        The value.

    Raises:
        ConfigError: If it is of another kind.

    Example:
        >>> of_kind(float, 1, "rate")
        1
        >>> of_kind(str, 16, "precision")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: precision must be text (quote what reads as a number), got 16
    """
    accepted, words = KINDS[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        raise ConfigError(f"{name} must be {words}, got {value!r}")
    return cast("KindT", value)


def _find(settings: Mapping[str, Any], name: str) -> Any:
    """Find a setting, in its group where its name has one."""
    outer, dot, inner = name.partition(".")
    return group(settings, outer)[inner] if dot and name not in settings else settings[name]


def text(settings: Mapping[str, Any], name: str) -> str | None:
    """Read a text, or none.

    Example:
        >>> text({"dtype": "float16"}, "dtype"), text({"flow": {"network": None}}, "flow.network")
        ('float16', None)
    """
    value = _find(settings, name)
    return None if value is None else of_kind(str, value, name)


def whole(settings: Mapping[str, Any], name: str, *, least: int) -> int:
    """Read a whole number of at least ``least``.

    Example:
        >>> whole({"batch_size": 4}, "batch_size", least=1)
        4
        >>> whole({"batch_size": 0.5}, "batch_size", least=1)
        Traceback (most recent call last):
        coadtr.errors.ConfigError: batch_size must be a whole number of at least 1, got 0.5
    """
    value = _find(settings, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def one_of(choices: tuple[ChoiceT, ...], value: object, name: str) -> ChoiceT:
    """Check that a value is one of some.

    Example:
        >>> one_of(("eager", "compiled"), "eager", "backend")
        'eager'
        >>> one_of(("eager", "compiled"), "fast", "backend")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: backend must be one of eager, compiled; got 'fast'
    """
    for choice in choices:
        if choice == value:
            return choice
    words = ", ".join("null" if choice is None else str(choice) for choice in choices)
    raise ConfigError(f"{name} must be one of {words}; got {value!r}")


def whether(settings: Mapping[str, Any], name: str) -> bool:
    """Read true or false.

    Example:
        >>> whether({"overwrite": True}, "overwrite")
        True
    """
    return of_kind(bool, settings[name], name)


def watched(settings: Mapping[str, Any], name: str) -> bool:
    """Read whether to show progress; by default if a person watches, so that no log fills with bars."""
    if settings[name] is None:
        return sys.stderr.isatty() and sys.stdout.isatty()
    return whether(settings, name)


def a_path(settings: Mapping[str, Any], name: str) -> Path:
    """Read a path; one that reads as a number, such as ``out=2024``, is a path too.

    Example:
        >>> a_path({"out": 2024}, "out").name
        '2024'
    """
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == "":
        raise ConfigError(f"{name} must be a path, got {value!r}")
    return Path(str(value))


def new_store(settings: Mapping[str, Any]) -> Path:
    """Read ``out``, the feature store to write; one that is there is kept unless ``overwrite`` is true.

    Raises:
        ConfigError: If it is a folder, or is there and may not be replaced.

    Example:
        >>> new_store({"out": "new.h5", "overwrite": False}).name
        'new.h5'
    """
    out = a_path(settings, "out")
    if out.is_dir():
        raise ConfigError(f"out={out} is a folder: name a file in it, such as {out / 'features.h5'}")
    if not whether(settings, "overwrite") and out.exists():
        raise ConfigError(f"{out} exists: choose another out, or say overwrite=true to replace it")
    return out


def names(settings: Mapping[str, Any], name: str) -> list[str] | None:
    """Read a list of names; one name is a list of one, none is None.

    Example:
        >>> names({"streams": "rgb"}, "streams"), names({"features": {"streams": None}}, "features.streams")
        (['rgb'], None)
    """
    value = _find(settings, name)
    if value is None:
        return None
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(one, str) for one in found):
        raise ConfigError(f"{name} must be a list of names such as [rgb,flow], got {value!r}")
    return found


def counts(settings: Mapping[str, Any], name: str) -> list[int]:
    """Read a list of whole numbers of at least 1; one number is a list of one, none an empty list.

    Example:
        >>> [counts({"streams": given}, "streams") for given in ([1, 64], 8, None)]
        [[1, 64], [8], []]
    """
    value = settings[name]
    found = [] if value is None else value if isinstance(value, list) else [value]
    if any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in found):
        raise ConfigError(f"{name} must be a list of whole numbers of at least 1, such as [1,16,64], got {value!r}")
    return found


def group(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Read a group of settings.

    Example:
        >>> group({"latency": {"steps": 3}}, "latency")
        {'steps': 3}
    """
    value = settings.get(name)
    if not isinstance(value, dict):
        raise ConfigError(f"{name} is a group of settings, got {value!r}; set one of them as {name}.NAME=value")
    return value


def fill(record: type[RecordT], settings: Mapping[str, Any], name: str) -> RecordT:
    """Make a settings dataclass out of a group, each value of the kind of its default.

    Args:
        record: The dataclass; its fields all have defaults.
        settings: All settings.
        name: Name of the group.

    Returns:
        The record.

    Raises:
        ConfigError: If a setting is unknown, of another kind, or refused by the dataclass.
    """
    values = dict(group(settings, name))
    defaults = record()
    fields = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{name}.{key} is not a setting; {name} has {', '.join(fields)}")
        if dataclasses.is_dataclass(fields[key]):
            values[key] = fill(type(fields[key]), {f"{name}.{key}": value}, f"{name}.{key}")
        else:
            of_kind(cast("type[str]", type(fields[key])), value, f"{name}.{key}")
    with named_in_full({name: fields}):
        return record(**values)


def command_line() -> str:
    """Write the running command as a user would type it."""
    return f"{sys.argv[0]} {shlex.join(sys.argv[1:])}".strip()
