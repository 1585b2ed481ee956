"""The documentation: every command that it shows is one that works."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def _pages() -> list[Path]:
    folders = ("docs", "data", "checkpoints", "scripts", "benchmarks", "examples")
    nested = (page for folder in folders for page in (ROOT / folder).rglob("*.md"))
    return sorted({*ROOT.glob("*.md"), *nested})


def _command_lines(page: Path) -> list[list[str]]:
    """Return the words of every command in the page's code blocks, comments and prompts removed."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = (line for block in blocks for line in block.replace("\\\n", " ").splitlines())
    simple = (part for line in lines for part in re.split(r"&&|;", line.strip().removeprefix("$ ")))
    starts = re.compile(r"(?:\.venv/bin/)?(?:coadtr|make|python scripts/\w+\.py)(?: |$)")
    return [shlex.split(part, comments=True) for part in map(str.strip, simple) if starts.match(part)]


def _commands(program: str) -> list[str]:
    """Return the arguments of every documented command of ``program``, each once, in order."""
    words = [line for page in _pages() for line in _command_lines(page)]
    return list(dict.fromkeys(shlex.join(line[1:]) for line in words if line[0].endswith(program)))


def test_readme_shows_the_main_commands() -> None:
    shown = _command_lines(ROOT / "README.md")
    assert ["make", "demo"] in shown
    assert ["make", "test"] in shown
    assert {line[1] for line in shown if line[0] == "coadtr"} >= {"train", "replay", "data"}


@pytest.mark.parametrize("arguments", _commands("make"))
def test_documented_make_target_exists(arguments: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert [word for word in shlex.split(arguments) if "=" not in word and word not in targets] == []


@pytest.mark.parametrize("arguments", _commands("coadtr"))
def test_documented_command_composes(
    arguments: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["coadtr", *shlex.split(arguments), "--cfg", "job"])
    main = importlib.import_module("coadtr.cli.main").main
    try:
        main()
    except SystemExit as end:
        assert end.code in (None, 0), capsys.readouterr().err  # noqa: PT017
    assert ":" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [], "showing the settings left files behind"


def test_links_between_pages_lead_somewhere() -> None:
    links = [(page, target) for page in _pages() for target in LINK.findall(page.read_text(encoding="utf-8"))]
    assert [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()] == []
