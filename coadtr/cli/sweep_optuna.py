"""A sweep that Optuna steers: `hydra/sweeper=optuna`.

Hydra's own plugin for it, hydra-optuna-sweeper 1.3, holds Optuna below 3.0, a release of 2022 that does not open its
storage with today's SQLAlchemy. This one is as thin as that: it asks a study for values, has the launcher run them,
and tells what came out.

The study is kept nowhere. Its sampler is seeded, so the same command asks for the same values again; the runs of those
that have finished are recognised, and the search goes on where it was broken off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

from coadtr.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from optuna.trial import Trial

__all__ = ["OptunaSweeper", "offer_optuna"]


class OptunaSweeper(Sweeper):
    """Search for the settings of the best validation mAP.

    A setting is searched that is given as ``a,b`` or ``choice(a,b)``, ``range(start,stop,step)`` or
    ``interval(low,high)``; ``tag(log, ...)`` searches an interval on a logarithmic scale. A job that fails
    counts as a trial without a value.

    Args:
        n_trials: Trials in all.
        n_jobs: Trials that the launcher is given at a time.
        seed: Of the sampler (tree-structured Parzen estimators).
        params: Settings that are searched, as written on the command line, which has precedence.
    """

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        seed: int,
        params: DictConfig | None,
    ) -> None:
        if min(n_trials, n_jobs) < 1:
            raise ConfigError(f"hydra.sweeper.n_trials={n_trials} and n_jobs={n_jobs} must be at least 1")
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed
        self.params = [f"{name!s}={value}" for name, value in (params or {}).items()]
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the launcher that the user chose."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run all trials.

        Raises:
            MissingExtraError: If Optuna is not installed.
            ConfigError: If nothing is searched.
        """
        try:
            import optuna  # noqa: PLC0415 - of an extra
        except ImportError:
            raise MissingExtraError('hydra/sweeper=optuna needs Optuna: pip install "coadtr[sweep]"') from None
        assert self.hydra_context is not None  # noqa: S101 - Hydra calls `setup` before
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = {one.get_key_element(): one for one in parser.parse_overrides([*self.params, *arguments])}
        if not any(one.is_sweep_override() for one in given.values()):
            raise ConfigError("hydra/sweeper=optuna has no setting to search: give one as name=interval(low,high)")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=self.seed))
        done = 0
        while done < self.n_trials:
            trials = [study.ask() for _ in range(min(self.n_jobs, self.n_trials - done))]
            jobs = [tuple(_word(one, trial) for one in given.values()) for trial in trials]
            # Two processes must not write to one folder: jobs that are the same run once.
            different = list(dict.fromkeys(jobs))
            self.validate_batch_is_legal([list(job) for job in different])
            returns = dict(zip(different, self._launch(different, done), strict=True))
            for trial, job in zip(trials, jobs, strict=True):
                score = _score(returns[job])
                state = optuna.trial.TrialState.FAIL if score is None else None
                study.tell(trial, score, state=state)
            done += len(trials)

    def _launch(self, jobs: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        assert self.launcher is not None  # noqa: S101 - Hydra calls `setup` before
        return self.launcher.launch([list(job) for job in jobs], initial_job_idx=first)


def _word(override: Override, trial: Trial) -> str:
    """Write the setting of a trial as on a command line."""
    name = override.get_key_element()
    if not override.is_sweep_override():
        return f"{name}={override.get_value_element_as_str()}"
    space, log = override.value(), "log" in getattr(override.value(), "tags", ())
    if isinstance(space, IntervalSweep):
        low, high = space.start, space.end
        if isinstance(low, int) and isinstance(high, int):
            return f"{name}={trial.suggest_int(name, low, high, log=log)}"
        # Six digits are plenty, and make a name that can be read.
        return f"{name}={trial.suggest_float(name, float(low or 0), float(high or 0), log=log):.6g}"
    if isinstance(space, (ChoiceSweep, RangeSweep)):
        return f"{name}={trial.suggest_categorical(name, list(override.sweep_string_iterator()))}"
    raise ConfigError(
        f"{name}: {override.input_line} cannot be searched; give choice(...), range(...) or interval(...)"
    )


def _score(done: JobReturn) -> float | None:
    value: Any = done.return_value if done.status is JobStatus.COMPLETED else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def offer_optuna() -> None:
    """Make the sweeper known to Hydra, which takes plugins by names below ``hydra_plugins`` alone."""
    name = f"hydra_plugins.coadtr.{OptunaSweeper.__name__}"
    Plugins.instance().class_name_to_class[name] = OptunaSweeper
