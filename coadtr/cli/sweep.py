"""Sweeps of ``coadtr train``: a folder for each job, finished runs recognised, failed jobs noted and passed over.

A job may run in another process or on another machine, so what it gave is written down in the sweep's folder::

    runs/SWEEP/
        JOB/                one run each, as of `coadtr train`
        jobs/JOB.json       how the job went
        results.csv, .json  the table of all jobs, see coadtr.cli.sweep_table
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
import traceback
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.core.utils import setup_globals
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from coadtr.cli.messages import explain
from coadtr.cli.processes import leads, quoted
from coadtr.cli.sweep_table import differing, job_table, mean_table, show_tables, write_tables
from coadtr.errors import CoadtrError, ConfigError, TrainingError

__all__ = ["Sweep", "conclude", "first_job", "folder_name", "prepare"]

FLAGS = ("-m", "--multirun")
HYDRA = "hydra"  # settings of the sweep itself, not of its jobs


@dataclass(frozen=True)
class Sweep:
    """The task that Hydra's launchers call once a job; it travels to their processes.

    Attributes:
        folder: Folder of the sweep.
        shared: Names of the settings that the command gives one value for all jobs.
        call: Marks what the jobs of this call wrote, apart from what an earlier call left in the folder.
    """

    folder: str
    shared: tuple[str, ...]
    call: str

    def __call__(self, settings: DictConfig) -> float | None:
        """Train, unless the run has finished already; a failure is written down and does not end the sweep."""
        from coadtr.cli.main import quieten  # noqa: PLC0415 - that module imports this one

        given = dict(word.partition("=")[::2] for word in HydraConfig.get().overrides.task)
        name = folder_name({key: value for key, value in given.items() if key not in self.shared}) or "job"
        record: dict[str, Any] = {"call": self.call, "number": HydraConfig.get().job.num, "overrides": given}
        before, arguments = _read(self._path(name)), sys.argv
        self._write(name, {**record, "state": "running"})
        try:
            self._settle(settings, name, named="${" in given.get("name", ""))
            # The command that the checkpoint keeps trains this run alone.
            words = {**given, "out": str(settings.out)}
            sys.argv = ["coadtr train", *(f"{key}={value}" if value else key for key, value in words.items())]
            with warnings.catch_warnings():
                quieten()
                done = self._train(settings, before)
        except Exception as error:  # noqa: BLE001 - the other jobs go on; the end of the sweep names it
            failure = {"error": _in_one_line(error), "traceback": traceback.format_exc()}
            self._write(name, {**record, "state": "failed", **failure})
            print(f"failed: {failure['error']}", flush=True)
            return None
        finally:
            sys.argv = arguments
        self._write(name, {**record, "state": "finished", **done})
        score: float = done["validation_mAP"]
        return score

    def _settle(self, settings: DictConfig, name: str, *, named: bool) -> None:
        """Give the job a folder of its own, unless the user named each; and no bars beside those of other jobs."""
        written = OmegaConf.to_container(settings, resolve=False)
        if isinstance(written, dict) and written.get("out") == "runs/${name}" and not named:
            settings.out = str(Path(self.folder) / name)
        if settings.get("progress") is None and "basic" not in str(HydraConfig.get().launcher.get("_target_")):
            settings.progress = False

    def _train(self, settings: DictConfig, before: Mapping[str, Any]) -> dict[str, Any]:
        from coadtr.cli.train import run  # noqa: PLC0415 - takes seconds; neither help nor a misspelt setting needs it

        began = time.perf_counter()
        result, trained = run(settings, again=False)
        done = {"out": str(settings.out), "validation_mAP": result.validation_map, "epoch": result.epoch}
        # Of a run that an earlier call trained, the time is what that call noted.
        seconds = time.perf_counter() - began if trained else before.get("seconds") if before else None
        return {**done, "seconds": seconds, "checkpoint": str(result.checkpoint), "trained": trained}

    def _path(self, name: str) -> Path:
        return Path(self.folder) / "jobs" / f"{name}.json"

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        if not leads():
            return
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)

    def records(self) -> list[dict[str, Any]]:
        """Read what the jobs of this call wrote, in their order."""
        found = [_read(path) for path in (Path(self.folder) / "jobs").glob("*.json")]
        return sorted((one for one in found if one.get("call") == self.call), key=lambda one: int(one["number"]))


def prepare(command: str, words: Sequence[str]) -> tuple[Sweep, list[str]]:
    """Choose the folder of a sweep from its command, so that the same command finds it again.

    Args:
        command: The command, for messages.
        words: What the user gave after it.

    Returns:
        The task, and the words for Hydra.

    Raises:
        ConfigError: If the words cannot be read, or the given folder is not a plain path.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(_settings(words))
    except OverrideParseException as error:
        raise ConfigError(explain(error, command=command, folder=Path())) from error
    given = {one.get_key_element(): one for one in overrides}
    own = {name: one for name, one in given.items() if not name.startswith(HYDRA)}
    shared = tuple(name for name, one in own.items() if not one.is_sweep_override())
    if "hydra.sweep.dir" in given:
        folder = _plain_path(str(given["hydra.sweep.dir"].value()))
    elif "name" in shared and "${" not in (named := str(own["name"].value())):
        folder = f"runs/{named}"
    else:
        fixed = {name: str(own[name].get_value_element_as_str()) for name in shared if name not in ("name", "out")}
        folder = f"runs/{folder_name(dict.fromkeys(set(own) - set(shared), '') | fixed, longest=80) or 'sweep'}"
    # Hydra's parser takes settings that stand together alone: this one goes beside the first of the others.
    kept = [word for word in words if not word.startswith("hydra.sweep.dir=")]
    place = min((kept.index(one) for one in _settings(kept)), default=0)
    return Sweep(folder, shared, uuid.uuid4().hex), [*kept[:place], f"hydra.sweep.dir={quoted(folder)}", *kept[place:]]


def first_job(words: Sequence[str]) -> list[str]:
    """Make the call of a sweep that of its first job, whose settings Hydra can show.

    Example:
        >>> first_job(["-m", "seed=0,1", "model.dropout=interval(0.1, 0.5)", "--cfg", "job"])
        ['seed=0', 'model.dropout=0.1', '--cfg', 'job']
    """
    settings, parser = _settings(words), OverridesParser.create()
    return [_first_value(parser, word) if word in settings else word for word in words if word not in FLAGS]


def _first_value(parser: OverridesParser, word: str) -> str:
    override = parser.parse_override(word)
    if not override.is_sweep_override():
        return word
    space = override.value()
    value = space.start if isinstance(space, IntervalSweep) else next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={value}"


def conclude(sweep: Sweep, *, broken_by: CoadtrError | None = None) -> str | None:
    """Collect what the jobs wrote into tables, print these, and name the jobs that failed.

    Args:
        sweep: The task.
        broken_by: What ended the sweep before its end.

    Returns:
        One line on the jobs that failed, or none.

    Raises:
        TrainingError: If jobs had begun when the sweep was broken off.
    """
    records = sweep.records()
    if not records:
        return None
    jobs = job_table(records)
    means = mean_table(jobs)
    write_tables(Path(sweep.folder), jobs, means)
    show_tables(Path(sweep.folder), jobs, means)
    failed = [record for record in records if record["state"] == "failed"]
    keys = differing(records)
    for record in failed:
        which = " ".join(f"{key}={record['overrides'].get(key)}" for key in keys) or "the job"
        print(f"coadtr: {which} failed: {record['error']}", file=sys.stderr)
    if broken_by is not None:
        cause = str(broken_by.__cause__ or broken_by).strip().splitlines()[0]
        raise TrainingError(f"the sweep broke off ({cause}): run the same command again to go on") from broken_by
    again = "run the same command again to try them again; those that finished are kept"
    return f"{len(failed)} of {len(records)} jobs failed: {again}" if failed else None


def folder_name(given: Mapping[str, str], longest: int = 150) -> str:
    """Name a folder after settings; other settings give another name.

    Args:
        given: Values by name; a name without a value stands alone.
        longest: Characters of the name, but for six that stand for all that is left out of it.

    Returns:
        The name, of letters that every file system takes.

    Example:
        >>> folder_name({"seed": "0", "experiment": "gtea/cooadtr_b1"})
        'experiment-gtea-cooadtr_b1+seed-0'
        >>> folder_name({"seed": "", "dataset.path": "a b.h5"})
        'seed+dataset.path-a-b.h5-32dcde'
    """
    # The names without a value are what a sweep is about: they come first where not all can be told.
    told = sorted(given, key=lambda name: (bool(given[name]), name))
    # No letter that has to be quoted in a setting such as checkpoint=PATH, as commas and equals signs have to be.
    text = "+".join(f"{name}-{given[name]}" if given[name] else name for name in told)
    name = re.sub(r"[^\w.+-]+", "-", text).lstrip(".-")
    if name == text.replace("/", "-") and len(name) <= longest:
        return name
    return f"{name[:longest].rstrip('+.-')}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _settings(words: Sequence[str]) -> list[str]:
    """Return the words without the flags and their values."""
    return list(get_args_parser().parse_args(list(words)).overrides)


def _plain_path(text: str) -> str:
    """Resolve the time in a folder's name once, for all processes of the sweep."""
    setup_globals()
    try:
        return str(OmegaConf.create({"path": text}).path)
    except OmegaConfBaseException:
        raise ConfigError(f"hydra.sweep.dir={text} must be a path of plain text and ${{now:...}}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or another machine is about to write it
        return {}
    return record if isinstance(record, dict) else {}


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, (CoadtrError, OSError)) else f"{type(error).__name__}: {text}"
