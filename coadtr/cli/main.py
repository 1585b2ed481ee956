"""The console script ``coadtr``: find the command, compose its settings, run it, report errors in one line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import coadtr
from coadtr.errors import CoadtrError, ConfigError

__all__ = ["COMMANDS", "config_folder", "main"]

COMMANDS = {
    "train": "train a model, choose its best epoch on validation videos, export the checkpoint",
    "replay": "stream recorded videos through a checkpoint frame by frame, and report accuracy and cost",
    "export": "export the best or last epoch of a training run as a checkpoint",
    "cost": "print parameters and multiply-accumulates of a model",
    "data import": "import features and labels into a feature store",
    "data inspect": "show what a feature store holds",
}

USAGE = """\
usage: coadtr COMMAND [setting=value ...] [--cfg job] [--multirun] [--debug]

{commands}

`coadtr COMMAND --help` lists the settings of a command, `--cfg job` prints them as composed,
`--debug` shows the traceback of an error. coadtr {version}"""


def config_folder() -> Path:
    """Find the Hydra settings: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(coadtr.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _usage() -> str:
    commands = "\n".join(f"  {name:<14}{what}" for name, what in COMMANDS.items())
    return USAGE.format(commands=commands, version=coadtr.__version__)


def _parse(arguments: Sequence[str]) -> tuple[str, list[str]]:
    words = list(arguments)
    for size in (2, 1):
        if (name := " ".join(words[:size])) in COMMANDS:
            return name, words[size:]
    wanted = " ".join(word for word in words[:2] if "=" not in word and not word.startswith("-"))
    raise ConfigError(f"unknown command {wanted!r}; commands are {', '.join(COMMANDS)}")


def _run(name: str, overrides: Sequence[str]) -> None:
    import hydra  # noqa: PLC0415 - takes a moment, and `coadtr --help` does not need it
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415

    module = name.replace(" ", "_")
    task: Callable[..., object] = importlib.import_module(f"coadtr.cli.{module}").main
    GlobalHydra.instance().clear()
    before = sys.argv
    sys.argv = [f"coadtr {name}", *overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=module)(task)()
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()


def _one_line(error: BaseException) -> str:
    causes = [str(error)]
    if isinstance(error.__cause__, Exception) and not isinstance(error, CoadtrError):
        causes.append(str(error.__cause__))
    return " ".join(": ".join(causes).split())


def main() -> None:
    """Run the command that ``sys.argv`` names.

    Raises:
        SystemExit: With code 2 for a wrong call, 1 for another error, 130 when interrupted.
    """
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return
    if arguments[0] == "--version":
        print(f"coadtr {coadtr.__version__}")
        return
    # Let errors through: Hydra would print them its own way, over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        name, overrides = _parse(arguments)
        _run(name, overrides)
    except KeyboardInterrupt:
        print("coadtr: interrupted; run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        expected = isinstance(error, (CoadtrError, OSError)) or type(error).__module__.split(".")[0] in (
            "hydra",
            "omegaconf",
        )
        if debug or not expected:
            raise
        print(f"coadtr: error: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, ConfigError) or not isinstance(error, CoadtrError) else 1) from None


if __name__ == "__main__":
    main()
