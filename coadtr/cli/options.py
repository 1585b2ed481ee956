"""Options of a function as settings: each checked against the kind that its annotation names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from coadtr.cli.settings import of_kind
from coadtr.errors import ConfigError, DataError, SourceError

__all__ = ["as_settings", "settings_named", "typed_options"]

_PLAIN: dict[str, type[Any]] = {"str": str, "int": int, "float": float, "bool": bool}


def typed_options(function: Callable[..., object], values: Mapping[str, Any], group: str = "options") -> dict[str, Any]:
    """Check settings against the keyword arguments of a function.

    A text where a list is wanted is a list of one. A mapping is taken where the annotation names one.

    Args:
        function: The function; its annotations are texts such as ``"str | None"``.
        values: The settings, by name of the argument.
        group: Name of the group that they are in, for messages.

    Returns:
        The settings, as keyword arguments.

    Raises:
        ConfigError: If one is unknown, or of another kind.

    Example:
        >>> def plan(source, *, seed: int = 0, streams: Sequence[str] | None = None): ...
        >>> typed_options(plan, {"seed": 1, "streams": "rgb"})
        {'seed': 1, 'streams': ['rgb']}
        >>> typed_options(plan, {"seed": "one"})
        Traceback (most recent call last):
        coadtr.errors.ConfigError: options.seed must be a whole number, got 'one'
    """
    parameters = _options(function)
    if unknown := [name for name in values if name not in parameters]:
        raise ConfigError(f"{group}.{unknown[0]} is not an option here; the options are {', '.join(parameters)}")
    return {name: _typed(value, parameters[name].annotation, f"{group}.{name}") for name, value in values.items()}


def as_settings(text: str, function: Callable[..., object], group: str = "options") -> str:
    """Write options in a message as the settings that they are on the command line.

    An option is known by ``NAME=``, ``NAME must be given``, and ``drop NAME`` or ``give NAME`` at the end of a clause.

    Args:
        text: What a function says of its keyword arguments.
        function: The function.
        group: Name of the group that they are in.

    Returns:
        The message, with the name of the group before each.

    Example:
        >>> def plan(source, *, missing: str = "error", rate_hz: float = 4.0): ...
        >>> as_settings("drop its rows, or say missing=skip", plan)
        'drop its rows, or say options.missing=skip'
        >>> as_settings("made at 4 Hz: drop rate_hz", plan, "labels")
        'made at 4 Hz: drop labels.rate_hz'
    """
    name = "|".join(re.escape(one) for one in _options(function))
    if not name:
        return text
    # Not inside names, paths, quoted values, or settings that have their group already.
    alone = rf"(?<![\w./'\"-])({name})(?==|\ must\ be\ given)|(?<=\b(?:drop|give)\ )({name})(?=[,:;]|$)"
    return re.sub(alone, lambda found: f"{group}.{found[0]}", text)


@contextmanager
def settings_named(function: Callable[..., object], group: str = "options", *, dry_run: bool = False) -> Iterator[None]:
    """Raise the errors of a function with its options named as settings, see `as_settings`.

    Args:
        function: The function whose keyword arguments are the options.
        group: Name of the group that they are in.
        dry_run: Print all problems of a source, a line each, where they are more than one message holds.

    Example:
        >>> def plan(source, *, seed: int = 0): ...
        >>> with settings_named(plan):
        ...     raise ConfigError("seed=-1: give 0 or more")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: options.seed=-1: give 0 or more
    """
    try:
        yield
    except SourceError as error:
        error.problems = tuple(as_settings(problem, function, group) for problem in error.problems)
        if dry_run and len(error.problems) > error.most:
            for problem in error.problems:
                print(" ".join(problem.split()))
            raise DataError(f"{error.source}: {len(error.problems)} problems, all printed above") from error
        error.args = (as_settings(str(error), function, group),)
        raise
    except (ConfigError, DataError) as error:
        error.args = (as_settings(str(error), function, group),)
        raise


def _options(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}


def _typed(value: object, annotation: object, name: str) -> Any:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "str")
    kinds = [kind.strip() for kind in text.split("|")]
    if value is None:
        if "None" in kinds:
            return None
        raise ConfigError(f"{name} must be given, got null")
    if isinstance(value, dict) and any(kind.startswith("Mapping") for kind in kinds):
        return value
    if any(kind.startswith("Sequence") for kind in kinds) and (isinstance(value, list) or "str" not in kinds):
        return [of_kind(str, one, name) for one in (value if isinstance(value, list) else [value])]
    plain = [_PLAIN[kind] for kind in kinds if kind in _PLAIN]
    for kind in plain:
        if isinstance(value, (int, float) if kind is float else kind) and not (
            isinstance(value, bool) and kind is not bool
        ):
            return value
    if not plain:
        raise ConfigError(f"{name} must be settings such as {{a: b}}, got {value!r}")
    return of_kind(plain[0], value, name)
