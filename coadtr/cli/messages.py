"""Hydra's errors in one line each: what was wrong with the call, and what to do about it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

__all__ = ["explain", "missing_extra"]

# Settings that had another name.
MOVED = {"dataset.streams": "features.streams"}
# A group of more choices than these is not listed in a message.
MOST_LISTED = 20
PLUGINS = ("hydra/launcher/joblib", "hydra/launcher/submitit_local", "hydra/launcher/submitit_slurm")


def explain(error: Exception, *, command: str, folder: Path) -> str:
    """Say in one line what a call got wrong.

    Args:
        error: What Hydra raised while it composed the settings.
        command: The command, for the remedy.
        folder: Folder of the settings, whose files are the choices of the groups.

    Returns:
        One line.
    """
    remedy = f"`{command} --help` lists the settings"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        cut = str.rpartition if error.missing_cfg_file.startswith("hydra/") else str.partition
        name, _, choice = cut(error.missing_cfg_file, "/")
        if offer := _offer(choice, _choices(folder / name), command=command, plugin="/" in name):
            return f"{name}={choice}: there is no such choice; {offer}"
        return f"{error.missing_cfg_file}: there are no such settings; {remedy}"
    if isinstance(error, OverrideParseException):
        quote = "and quote a value with brackets or commas inside the word, as in 'name=\"a (b), c\"'"
        return f"{error.override!r} cannot be read ({_first_line(error)}); give settings as name=value, {quote}"
    if isinstance(error, ConfigCompositionException) and str(error).startswith("Could not override '"):
        name = str(error).split(chr(39))[1]
        if name.startswith("options."):
            remedy = f"`{command} format=NAME --help` lists the options of a format"
        return f"{name} is {f'now {MOVED[name]}' if name in MOVED else 'not a setting'}; {remedy}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {_first_line(error)}; {remedy}"
    cause = f" ({_first_line(error.__cause__)})" if isinstance(error.__cause__, Exception) else ""
    return f"{_first_line(error)}{cause}; {remedy}"


def missing_extra(error: Exception) -> str | None:
    """Say in one line which extra a launcher comes with that is not installed, if that is the error."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file in PLUGINS:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f'{group}={choice} is not installed: pip install "coadtr[sweep]"'
    return None


def _choices(group: Path) -> list[str]:
    return sorted(path.relative_to(group).with_suffix("").as_posix() for path in group.rglob("*.yaml"))


def _offer(choice: str, choices: list[str], *, command: str, plugin: bool) -> str:
    """Offer the choices of a group, or where they are many, those most like the one that there is not."""
    if len(choices) > MOST_LISTED:
        # However unlike they are: they show what a name looks like.
        closest = ", ".join(get_close_matches(choice, choices, 3, cutoff=0))
        return f"the closest are {closest}; `{command} --help` lists all {len(choices)}"
    listed = ", ".join(choices) or ("those in docs/sweeps.md" if plugin else "")
    return listed and f"choose one of {listed}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
