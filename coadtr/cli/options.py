"""Options of a function as settings: each checked against the kind that its annotation names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from coadtr.cli.settings import of_kind
from coadtr.errors import ConfigError

__all__ = ["typed_options"]

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
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    if unknown := [name for name in values if name not in parameters]:
        raise ConfigError(f"{group}.{unknown[0]} is not an option here; the options are {', '.join(parameters)}")
    return {name: _typed(value, parameters[name].annotation, f"{group}.{name}") for name, value in values.items()}


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
