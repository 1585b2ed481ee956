"""Take videos or streams out of a feature store, or put its videos into other splits."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coadtr.data.rewriting.rewrite import Copied, header_of, provenance, write_copies
from coadtr.data.rewriting.selection import matching
from coadtr.data.storage import schema
from coadtr.data.storage.store import FeatureStore
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["split_store"]


def split_store(
    path: str | Path,
    out: str | Path,
    *,
    videos: Sequence[str] | None = None,
    streams: Sequence[str] | None = None,
    fractions: Mapping[str, float] | None = None,
    assign: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> None:
    """Write some videos or streams of a store, or all of them in other splits.

    Args:
        path: The feature store.
        out: File to write.
        videos: Names or patterns of the videos to take; none for all.
        streams: Streams to take; none for all.
        fractions: Part of the videos that each split gets, by a seeded choice; together 1.
        assign: Names or patterns of videos by split; videos that are not named stay where they are.
        seed: Seed of the choice by ``fractions``; it depends on the names of the videos, not on their order.

    Raises:
        DataError: If a stream does not exist, the store is damaged, or the file cannot be written.
        ConfigError: If nothing is asked for, a pattern fits no video, a video would be in two splits, or the
            fractions do not make 1 or leave a split empty.

    Example:
        >>> import tempfile
        >>> from coadtr.data import write_exercises
        >>> folder = Path(tempfile.mkdtemp())
        >>> split_store(write_exercises(folder / "a.h5"), folder / "b.h5", assign={"test": ["*1", "*2"]})
        >>> [record.name for record in FeatureStore(folder / "b.h5").videos("test")][:2]
        ['subject_01', 'subject_02']
    """
    if not any((videos, streams, fractions, assign)):
        raise ConfigError("nothing is to be changed: give videos, streams, fractions or assign")
    if fractions and assign:
        raise ConfigError("fractions and assign both choose the splits: give one of them")
    with FeatureStore(path) as store:
        records = {record.name: record for record in store.videos()}
        taken = matching(tuple(records), videos, setting="videos") if videos else tuple(records)
        chosen = _by_fractions(taken, fractions, seed) if fractions else _by_patterns(taken, assign or {})
        header = header_of(store, attributes={}, streams=streams)
        told: dict[str, object] = {"from": provenance(store)}
        told |= {"videos": list(videos)} if videos else {}
        told |= {"fractions": dict(fractions), "seed": seed} if fractions else {}
        told |= {"assign": {split: list(patterns) for split, patterns in assign.items()}} if assign else {}
        # What an importer noted of its choice of validation videos no longer holds.
        kept = {key: value for key, value in store.attributes.items() if not (chosen and key == "validation")}
        if isinstance(extractors := kept.get("extractors"), dict):
            kept["extractors"] = {name: value for name, value in extractors.items() if name in header.streams}
        write_copies(
            out,
            replace(header, attributes={**kept, "split": told}),
            [
                Copied(replace(records[name], split=chosen.get(name, records[name].split)), store, name)
                for name in taken
            ],
            settings=("split", sorted(chosen.items()), list(header.streams)),
            multi_hot=store.label_kind == "multi-hot",
        )


def _by_fractions(names: Sequence[str], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    if seed < 0:
        raise ConfigError(f"seed={seed!r}: give 0 or a positive whole number")
    for split, fraction in fractions.items():
        schema.check_split(split)
        if not 0 <= fraction <= 1:
            raise ConfigError(f"fractions.{split}={fraction!r}: give a number from 0 to 1")
    total = math.fsum(fractions.values())
    if abs(total - 1) > 1e-6:
        raise ConfigError(f"fractions add up to {total:g}, not 1: change one of them")
    shares = {split: fractions[split] * len(names) for split in schema.SPLITS if fractions.get(split)}
    counts = {split: int(share + 1e-9) for split, share in shares.items()}
    # The videos left over go to the splits that lost most to rounding down.
    spare = len(names) - sum(counts.values())
    for split in sorted(shares, key=lambda split: counts[split] - shares[split])[:spare]:
        counts[split] += 1
    empty = [split for split, count in counts.items() if not count]
    if empty:
        raise ConfigError(
            f"fractions.{empty[0]}={fractions[empty[0]]!r} of {len(names)} videos is less than one: "
            "give it more, or leave the split out"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    ordered = [sorted(names)[index] for index in order]
    splits = [split for split, count in counts.items() for _ in range(count)]
    return dict(zip(ordered, splits, strict=True))


def _by_patterns(names: Sequence[str], assign: Mapping[str, Sequence[str]]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for split, patterns in assign.items():
        schema.check_split(split)
        for name in matching(names, patterns, setting=f"assign.{split}"):
            if chosen.setdefault(name, split) != split:
                raise ConfigError(
                    f"assign: video {name!r} is named for {chosen[name]} and for {split}: a video is in one split"
                )
    return chosen
