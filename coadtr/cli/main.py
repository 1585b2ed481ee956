"""The console script ``coadtr``: find the command, compose its settings, run it, report errors in one line."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import coadtr
from coadtr.cli.processes import end_with_parent, quoted, started_here, tell
from coadtr.errors import CoadtrError, ConfigError, MissingExtraError, TrainingError

__all__ = ["COMMANDS", "config_folder", "main", "module_of", "quieten"]

COMMANDS = {
    "train": "train a model, choose its best epoch on validation videos, export the checkpoint",
    "replay": "stream recorded videos through a checkpoint frame by frame, and report accuracy and cost",
    "report": "compare replayed runs on one page, with figures and tables",
    "export": "export the best or last epoch of a training run as a checkpoint",
    "cost": "print parameters and multiply-accumulates of a model",
    "data import": "import features and labels into a feature store",
    "data inspect": "show what a feature store holds, as a table and as a plot",
    "data check": "read a feature store whole and verify it",
    "data merge": "join feature stores",
    "data split": "take videos or streams out of a feature store, or change its splits",
    "data add-audio": "add the sound of the videos to a feature store as a stream, joined by time",
    "data convert": "change the number type or the compression of a feature store",
    "data synthesize": "make a full-size data set of real labels and simulated features",
    "extract": "make features of videos, with a backbone of your choice",
    "serve": "answer live streams over WebSockets",
    "live": "detect actions in a camera, an address or a video file, or classes of sound, while it goes on",
}

# Commands whose words without a name are the values of one setting: `coadtr report a b` is `coadtr report runs=[a,b]`.
WORDS = {"report": "runs"}

# A setting whose value is an address or a file, and is taken as it is written: Hydra gives `=`, `,` and `$` meanings.
VERBATIM = {"live": "source"}

# A setting's other name, where Hydra has a group of that name, and so would not take it for a setting.
ALIASES = {"export": ("format", "to")}

RESUMABLE = (
    *("train", "replay", "extract"),
    *("data import", "data merge", "data split", "data add-audio", "data convert", "data synthesize"),
)

USAGE = """\
usage: coadtr COMMAND [setting=value ...] [--cfg job] [--multirun] [--debug]

{commands}

`coadtr COMMAND --help` lists the settings of a command, `--cfg job` prints them as composed,
`--debug` shows the traceback of an error. coadtr {version}"""

# The flags of Hydra that are offered. Not among them: `--experimental-rerun`, which unpickles a file.
FLAGS = (
    *("-h", "--help", "--hydra-help", "-c", "--cfg", "--resolve", "-p", "--package", "-i", "--info"),
    *("-m", "--multirun", "-r", "--run", "-cd", "--config-dir"),
)


def module_of(name: str) -> str:
    """Return the name that a command's module and file of settings have.

    Example:
        >>> module_of("data add-audio")
        'data_add_audio'
    """
    return name.replace(" ", "_").replace("-", "_")


def config_folder() -> Path:
    """Find the Hydra settings: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(coadtr.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _usage(first: str = "") -> str:
    commands = "\n".join(f"  {name:<17}{what}" for name, what in COMMANDS.items() if name.startswith(first))
    return USAGE.format(commands=commands, version=coadtr.__version__)


def _parse(arguments: Sequence[str]) -> tuple[str, list[str]]:
    words = list(arguments)
    for size in (2, 1):
        if (name := " ".join(words[:size])) in COMMANDS:
            return name, words[size:]
    if words == ["data"] or (words[0] == "data" and words[1].startswith("-")):
        second = [name.removeprefix("data ") for name in COMMANDS if name.startswith("data ")]
        raise ConfigError(f"data needs one of {', '.join(second)}, as in `coadtr data import --help`")
    size = 2 if words[0] == "data" and len(words) > 1 and words[1][0:1].isalpha() and "=" not in words[1] else 1
    raise ConfigError(f"unknown command {' '.join(words[:size])!r}; commands are {', '.join(COMMANDS)}")


def _gather(name: str, words: Sequence[str]) -> list[str]:
    """Make one setting of the words that have no name, where a command takes such words; call others by their own."""
    if name in ALIASES:
        alias, own = ALIASES[name]
        given = [word for word in words if word.partition("=")[0] in (alias, own)]
        if len(given) > 1:
            raise ConfigError(f"{given[0]} and {given[1]} are one setting: give one of them")
        words = [f"{own}={word.partition('=')[2]}" if word.startswith(f"{alias}=") else word for word in words]
    if name in VERBATIM:
        words = [_verbatim(word, VERBATIM[name]) for word in words]
    if name not in WORDS:
        return list(words)
    flags = {"-c", "--cfg", "-p", "--package", "-i", "--info", "-cd", "--config-dir"}  # each takes the word after it
    bare: list[str] = []
    others: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        named = word.startswith(("-", "~", "+")) or ("=" in word and not Path(word).exists())
        (others if before in flags or named else bare).append(word)
    if not bare:
        return others
    return [f"{WORDS[name]}=[{','.join(map(quoted, bare))}]", *others]


def _verbatim(word: str, setting: str) -> str:
    name, sign, value = word.partition("=")
    return f"{name}={quoted(value)}" if name == setting and sign and value[:1] not in ("'", '"', "") else word


def _check_words(command: str, words: Sequence[str]) -> None:
    """Refuse flags that are not offered, and what Hydra's own parser would answer with a page of usage."""
    from hydra._internal.utils import get_args_parser  # noqa: PLC0415 - see `_run`

    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in FLAGS:
            raise ConfigError(f"unknown flag {word!r}; flags are {', '.join(FLAGS)}, --debug")

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; `{command} --help` lists the settings")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    for word in parser.parse_args(list(words)).overrides:
        if not word.startswith("~") and not word.partition("=")[1]:
            quotes = "; put a setting with blanks or braces in quotes" if any("{" in other for other in words) else ""
            refuse(f"{word!r} is not a setting: give it as name=value{quotes}")
        if word.startswith("="):
            refuse(f"{word!r} has no name: give it as name=value")


def _run(name: str, overrides: Sequence[str]) -> None:
    command, module = f"coadtr {name}", module_of(name)
    _check_words(command, overrides)
    if name == "train" and not {"-m", "--multirun"}.isdisjoint(overrides):
        _sweep(command, overrides)
        return
    failures: list[Exception] = []

    def job(settings: Any) -> object:
        # Hydra would print a line of its own about an error that reaches it. One that failed ends a sweep.
        try:
            # Imported here: it takes seconds, and neither `--help` nor a misspelt setting needs it.
            return None if failures else importlib.import_module(f"coadtr.cli.{module}").main(settings)
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)
            return None

    _launch(command, overrides, job)
    if failures:
        raise failures[0]


def _sweep(command: str, overrides: Sequence[str]) -> None:
    """Train many models. One that fails does not end the sweep: the end of it names them all."""
    from coadtr.cli.sweep import conclude, first_job, prepare  # noqa: PLC0415 - imports Hydra
    from coadtr.cli.sweep_optuna import offer_optuna  # noqa: PLC0415

    sweep, words = prepare(command, overrides)
    offer_optuna()
    if any(word.partition("=")[0] in ("-c", "--cfg", "-i", "--info") for word in words):
        _launch(command, first_job(words), sweep)
        return
    try:
        _launch(command, words, sweep)
    except CoadtrError as error:
        conclude(sweep, broken_by=error)
        raise
    except KeyboardInterrupt:
        conclude(sweep)
        raise
    if failed := conclude(sweep):
        raise TrainingError(failed)


def _launch(command: str, words: Sequence[str], task: Callable[[Any], object]) -> None:
    """Have Hydra compose the settings and call the task with them."""
    import hydra  # noqa: PLC0415 - takes a moment, and `coadtr --help` does not need it
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    from coadtr.cli.messages import explain, missing_extra  # noqa: PLC0415 - imports Hydra

    GlobalHydra.instance().clear()
    OmegaConf.register_new_resolver("settings", _commented, replace=True)
    before = sys.argv
    sys.argv = [command, *words]
    module = module_of(command.removeprefix("coadtr "))
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=module)(task)()
    except CoadtrError:
        raise
    except Exception as error:
        if extra := missing_extra(error):
            raise MissingExtraError(extra) from error
        raise ConfigError(explain(error, command=command, folder=config_folder())) from error
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()


def _commented(name: str) -> str:
    """Return the settings of a command as its file has them, comments and all, for its help."""
    text = (config_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    return text.partition("job_logging: none\n")[2].partition("\n\n")[2].rpartition("\nhydra:\n")[0].rstrip()


def quieten() -> None:
    """Leave out warnings that speak to a programmer: standard error is for what the user can act on."""
    for category in (FutureWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers")
    warnings.filterwarnings("ignore", message="GPU available but not used")


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
    if arguments in (["data", "--help"], ["data", "-h"]):
        print(_usage("data"))
        return
    if arguments[0] == "--version":
        print(f"coadtr {coadtr.__version__}")
        return
    # Let errors through: Hydra would print them its own way, over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    end_with_parent()
    try:
        name, overrides = _parse(arguments)
        with warnings.catch_warnings():
            quieten()
            _run(name, _gather(name, overrides))
    except KeyboardInterrupt:
        remedy = "; run the same command again to go on" if " ".join(arguments[:2]).startswith(RESUMABLE) else ""
        if not started_here():
            print(f"coadtr: interrupted{remedy}", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (CoadtrError, OSError) as error:
        if debug:
            traceback.print_exc()
        code = 2 if isinstance(error, ConfigError) else 1
        tell(" ".join(str(error).split()), code)
        raise SystemExit(code) from None


if __name__ == "__main__":
    main()
