"""From composed settings to plain values."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest
from omegaconf import OmegaConf

from coadtr.cli.settings import a_path, command_line, fill, group, names, of_kind, plain, require, text, watched, whole
from coadtr.errors import ConfigError


@dataclass(frozen=True)
class Sizes:
    width: int = 4
    rate: float = 0.5
    wide: bool = False
    name: str = "a"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True)
class Room:
    doors: int = 1
    sizes: Sizes = Sizes()

    def __post_init__(self) -> None:
        if self.doors > self.sizes.width:
            raise ConfigError(f"doors={self.doors} is above width={self.sizes.width}")


def test_plain_values_are_resolved() -> None:
    assert plain(OmegaConf.create({"a": 1, "b": {"c": "${a}"}})) == {"a": 1, "b": {"c": 1}}


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"b\.c=\.\.\. must be given"):
        plain(OmegaConf.create({"b": {"c": "???"}}))
    with pytest.raises(ConfigError, match=r"out=\.\.\. must be given"):
        require(OmegaConf.create({"out": None}), "out")
    with pytest.raises(ConfigError, match="a: Interpolation key 'b' not found"):
        plain(OmegaConf.create({"a": "${b}"}))


def test_a_group_fills_a_dataclass() -> None:
    assert fill(Sizes, {"sizes": {"width": 8, "rate": 1, "wide": True}}, "sizes") == Sizes(8, 1, wide=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 1}, r"sizes\.depth is not a setting; sizes has width, rate, wide, name"),
        ({"width": 1.5}, r"sizes\.width must be a whole number, got 1\.5"),
        ({"width": True}, r"sizes\.width must be a whole number, got True"),
        ({"rate": "fast"}, r"sizes\.rate must be a number, got 'fast'"),
        ({"wide": 1}, r"sizes\.wide must be true or false, got 1"),
        ({"name": 3}, r"sizes\.name must be text .*, got 3"),
        (None, "sizes is a group of settings, got None; set one of them as sizes.NAME=value"),
    ],
)
def test_a_group_of_other_kinds_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fill(Sizes, {"sizes": values}, "sizes")


def test_what_a_dataclass_refuses_is_told_by_its_full_name() -> None:
    with pytest.raises(ConfigError, match=r"^room\.sizes\.width must be at least 1, got 0$"):
        fill(Room, {"room": {"sizes": {"width": 0}}}, "room")
    with pytest.raises(ConfigError, match=r"^room\.doors=9 is above width=4$"):
        fill(Room, {"room": {"doors": 9}}, "room")


def test_a_setting_is_found_in_its_group() -> None:
    settings = {"frame": {"height": 0, "a.b": 2}, "latency.steps": 3, "flow": 5}
    assert whole(settings, "latency.steps", least=1) == 3
    assert whole(settings, "frame.a.b", least=1) == 2
    with pytest.raises(ConfigError, match=r"^frame\.height must be a whole number of at least 1, got 0$"):
        whole(settings, "frame.height", least=1)
    with pytest.raises(ConfigError, match="flow is a group of settings, got 5"):
        text(settings, "flow.network")


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2", None])
def test_a_count_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ConfigError, match="n must be a whole number of at least 1"):
        whole({"n": value}, "n", least=1)


def test_paths_and_names() -> None:
    assert a_path({"out": "runs/a"}, "out").parts == ("runs", "a")
    assert names({"s": ["a", "b"]}, "s") == ["a", "b"]
    for value in (None, "", ["a"], True):
        with pytest.raises(ConfigError, match="out must be a path"):
            a_path({"out": value}, "out")
    for other in ([], [1], {"a": 1}):
        with pytest.raises(ConfigError, match="s must be a list of names"):
            names({"s": other}, "s")
    with pytest.raises(ConfigError, match="g is a group"):
        group({}, "g")
    assert of_kind(str, "16", "precision") == "16"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_to_people_by_default(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert watched({"progress": None}, "progress") is terminal
    assert watched({"progress": False}, "progress") is False
    assert watched({"progress": True}, "progress") is True


def test_the_command_line_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["coadtr train", "out=my runs", "seed=1"])
    assert command_line() == "coadtr train 'out=my runs' seed=1"
