"""From composed settings to plain values."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from coadtr.errors import ConfigError

__all__ = ["command_line", "plain", "require"]


def plain(settings: Any) -> Any:
    """Resolve composed settings into dicts, lists and plain values.

    Raises:
        ConfigError: If a value that the user has to give is missing.
    """
    if not OmegaConf.is_config(settings):
        return settings
    try:
        return OmegaConf.to_container(settings, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}=... must be given") from None


def require(cfg: DictConfig, *names: str) -> None:
    """Check that the user gave the settings that have no default.

    Raises:
        ConfigError: If one is missing, naming it.
    """
    for name in names:
        if OmegaConf.is_missing(cfg, name):
            raise ConfigError(f"{name}=... must be given; `{sys.argv[0]} --help` lists the settings")


def command_line() -> str:
    """Write the running command as a user would type it."""
    return f"{sys.argv[0]} {shlex.join(sys.argv[1:])}".strip()
