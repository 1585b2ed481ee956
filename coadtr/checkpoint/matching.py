"""Whether features and classes are those that a checkpoint was trained on, and if not, what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coadtr.runtime.description import describe_streams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coadtr.checkpoint.spec import CheckpointSpec

__all__ = ["explain_mismatch"]

RATE_TOLERANCE: Final = 0.01


def explain_mismatch(
    spec: CheckpointSpec,
    streams: Mapping[str, int],
    rate_hz: float | None,
    class_names: Sequence[str] | None,
    *,
    special_classes: tuple[int | None, int | None] | None = None,
    extractors: Mapping[str, Mapping[str, str]] | None = None,
) -> str | None:
    """Say what keeps a checkpoint from being used on features and classes, or None if nothing does.

    Args:
        spec: Description of the checkpoint.
        streams: Name and channels of each feature stream, in order.
        rate_hz: Frames a second, or None if unknown.
        class_names: Names of the classes, or None if unknown.
        special_classes: Index of the background class and of the ignored class, or None if unknown.
        extractors: What made the features of each stream, as far as it is known.
    """
    return (
        _explain_streams(spec.streams, streams)
        or _explain_extractors(spec.extractors, extractors or {})
        or (None if rate_hz is None else _explain_rate(spec.rate_hz, rate_hz))
        or (None if class_names is None else _explain_classes(spec.class_names, class_names))
        or (None if special_classes is None else _explain_special(spec, special_classes))
    )


def _explain_streams(wanted: Mapping[str, int], given: Mapping[str, int]) -> str | None:
    if list(wanted.items()) == list(given.items()):
        return None
    both = f"the model takes {describe_streams(wanted)}, the features are {describe_streams(given)}"
    if dict(wanted) == dict(given):
        return f"{both}: the streams are in another order; give them in the model's"
    if missing := [name for name in wanted if name not in given]:
        return f"{both}: stream {missing[0]!r} is missing; use features that have it"
    if unknown := [name for name in given if name not in wanted]:
        return f"{both}: the model knows no stream {unknown[0]!r}; leave it out"
    name = next(name for name in wanted if wanted[name] != given[name])
    return f"{both}: stream {name!r} has {given[name]} channels, not {wanted[name]}; use features of that width"


def _explain_extractors(wanted: Mapping[str, Mapping[str, str]], given: Mapping[str, Mapping[str, str]]) -> str | None:
    """Compare what both know of a stream: equal widths do not make equal features."""
    for stream in wanted:
        for key in wanted[stream]:
            mine, theirs = wanted[stream][key], given.get(stream, {}).get(key, wanted[stream][key])
            if mine != theirs:
                return (
                    f"the features of stream {stream!r} were made with {key} {theirs!r}, "
                    f"the model was trained on {mine!r}; extract them as for the model"
                )
    return None


def _explain_rate(wanted: float, given: float) -> str | None:
    # Written so that a rate which is not a number is refused too.
    if abs(given - wanted) <= RATE_TOLERANCE * wanted:
        return None
    return f"the model was trained at {wanted:g} frames a second, the features have {given:g}; resample them"


def _explain_classes(wanted: Sequence[str], given: Sequence[str]) -> str | None:
    if list(wanted) == list(given):
        return None
    lacking = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if lacking or unknown:
        parts = [f"the data have no class {', '.join(lacking)}"] if lacking else []
        parts += [f"the model has no class {', '.join(unknown)}"] if unknown else []
        return f"{'; '.join(parts)}: use data with the model's classes"
    if len(wanted) != len(given):
        return f"the data list {len(given)} classes, some twice, the model has {len(wanted)}; use the model's classes"
    index = next(i for i, (a, b) in enumerate(zip(wanted, given, strict=True)) if a != b)
    return (
        f"class {index} is {given[index]!r} in the data and {wanted[index]!r} in the model: "
        "the classes are in another order; use data with the model's"
    )


def _explain_special(spec: CheckpointSpec, given: tuple[int | None, int | None]) -> str | None:
    def named(index: int | None) -> str:
        return "none" if index is None else repr(spec.class_names[index])

    for kind, wanted, found in zip(("background", "ignored"), (spec.background, spec.ignored), given, strict=True):
        if found != wanted:
            return (
                f"the {kind} class is {named(found)} in the data and {named(wanted)} in the model: "
                "their scores would not be of the same classes"
            )
    return None
