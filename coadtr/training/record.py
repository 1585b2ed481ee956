"""``run.json``: what decides the result of a run, so that it is gone on with under its own settings only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coadtr.checkpoint import CheckpointSpec
from coadtr.data import FeatureStore, check_recordings
from coadtr.errors import ConfigError
from coadtr.models import config_from_dict
from coadtr.training.settings import TrainingSettings
from coadtr.types import TASKS

__all__ = ["completed", "describe_run", "last_epoch", "mark_finished", "read_run", "settle_run", "spec_of_run"]

FORMAT, VERSION = "coadtr-run", 1
SECTIONS = ("model", "training", "data")
RECORD = "run.json"


def describe_run(
    store: FeatureStore,
    model: Mapping[str, Any],
    settings: TrainingSettings,
    streams: Sequence[str] | None,
    task: str | None = None,
) -> dict[str, Any]:
    """Write down all that decides the result of a run.

    Args:
        store: Features and labels.
        model: Settings of the model without ``input_dim`` and ``num_classes``.
        settings: How to train.
        streams: Feature streams to use, in this order; None for all.
        task: ``"oad"`` or ``"audio"``; None for what the store says.

    Returns:
        A JSON object.

    Raises:
        ConfigError: If a setting is out of range.
        DataError: If the store has no training or validation videos, or not the wanted streams.
    """
    chosen = store.task if task is None else task
    if chosen not in TASKS:
        raise ConfigError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if chosen != "audio" and settings.shortest_clip != 1:
        raise ConfigError(
            f"shortest_clip={settings.shortest_clip} is of whole recordings, and task={chosen} has a class a frame: "
            "use shortest_clip=1"
        )
    for split in ("train", "validation"):
        store.videos(split)
        if chosen == "audio":
            check_recordings(store, split)
    used = {name: store.streams[name] for name in store.check_streams(streams)}
    config = config_from_dict({**model, "input_dim": sum(used.values()), "num_classes": len(store.class_names)})
    known = {name: told for name, told in store.extractors.items() if name in used}
    return {
        "format": FORMAT,
        "version": VERSION,
        "finished": False,
        "model": config.to_dict(),
        "training": settings.to_dict(),
        "data": {
            "path": str(store.path),
            "fingerprint": store.fingerprint(),
            "class_names": list(store.class_names),
            "background": store.background,
            "ignored": store.ignored,
            # A list, because their order decides which channel is which.
            "streams": [{"name": name, "channels": channels} for name, channels in used.items()],
            "rate_hz": store.rate_hz("train"),
            "head": "sigmoid" if store.label_kind == "multi-hot" else "softmax",
            **({"extractors": known} if known else {}),
            # As in checkpoints: the records of earlier versions have none.
            **({"task": chosen} if chosen != "oad" else {}),
        },
    }


def spec_of_run(run: Mapping[str, Any], path: Path) -> CheckpointSpec:
    """Read the description of a run's checkpoint out of its record.

    Raises:
        ConfigError: If the record is damaged.
    """
    data = run["data"]
    try:
        return CheckpointSpec(
            model=config_from_dict(run["model"]),
            class_names=tuple(data["class_names"]),
            background=data["background"],
            ignored=data["ignored"],
            streams={stream["name"]: stream["channels"] for stream in data["streams"]},
            rate_hz=data["rate_hz"],
            head=data["head"],
            extractors=data.get("extractors", {}),
            task=data.get("task", "oad"),
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path / RECORD} is damaged ({error!r}): train again in another folder") from error


def read_run(out: Path) -> dict[str, Any]:
    """Read the record of a run.

    Raises:
        ConfigError: If there is none, or it is damaged or of another version.
    """
    path = out / RECORD
    try:
        run = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{out} holds no training run: name the folder that `coadtr train` wrote") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}): the run cannot be read") from None
    if not isinstance(run, dict) or run.get("format") != FORMAT or run.get("version") != VERSION:
        raise ConfigError(f"{path} is not the record of a training run of version {VERSION}: name another folder")
    if damaged := [name for name in SECTIONS if not isinstance(run.get(name), dict)]:
        raise ConfigError(f"{path} lacks {', '.join(damaged)}: it is damaged, train again in another folder")
    return run


def _write(out: Path, run: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{RECORD}.partial"
    partial.write_text(json.dumps(run, indent=2) + "\n")
    partial.replace(out / RECORD)


def mark_finished(out: Path, run: Mapping[str, Any]) -> None:
    """Record that a run has been trained to its end and exported."""
    _write(out, {**run, "finished": True})


def last_epoch(out: Path) -> Path | None:
    """Find the trainer's checkpoint of the last whole epoch in the folder of a run; None if there is none."""
    path = out / "lightning" / "last.ckpt"
    return path if path.exists() else None


def completed(run: Mapping[str, Any]) -> dict[str, Any]:
    """Give what an older version did not write down in the record of a run its default, which is how it trained.

    Args:
        run: What :func:`read_run` returned.
    """
    training = _filled(run["training"], TrainingSettings().to_dict())
    return {**run, "model": config_from_dict(run["model"]).to_dict(), "training": training}


def _filled(told: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    filled = {**defaults, **told}
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(filled[name], dict):
            filled[name] = _filled(filled[name], default)
    return filled


def settle_run(out: Path, run: Mapping[str, Any], *, resume: bool) -> Path | None:
    """Decide between a new run and going on with an interrupted one.

    Args:
        out: Folder of the run.
        run: What :func:`describe_run` returned.
        resume: Whether an interrupted run may be gone on with.

    Returns:
        The trainer's checkpoint to go on from, or None for a new run, whose record is then written.

    Raises:
        ConfigError: If the folder holds a finished run, one of other settings, or one that must not be gone on with.
    """
    last = last_epoch(out)
    before = read_run(out) if (out / RECORD).exists() else {}
    if before.get("finished"):
        raise ConfigError(f"the run in {out} has finished; its checkpoint is {out / 'checkpoint'}: choose another out")
    if not before or last is None:
        # Without an epoch to go on from nothing was learnt, and new settings may be tried in the same folder.
        _write(out, run)
        return None
    if not resume:
        raise ConfigError(f"{out} holds a run already: choose another out, or say resume=true to go on with it")
    before = completed(before)
    for part in SECTIONS:
        for name in sorted({*before[part], *run[part]} - {"path"}):
            if before[part].get(name) != run[part].get(name):
                raise ConfigError(
                    f"the run in {out} was started with {part}.{name}={before[part].get(name)!r}, not "
                    f"{run[part].get(name)!r}: go on with the same settings, or choose another out"
                )
    return last
