"""The documentation: its Python runs, and prints what it says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A line that prints and says in a comment what: `print(scores.shape)  # (3,)`.
PRINT = re.compile(r"^\s*print\(.*\)(?:  # (.+))?$", re.MULTILINE)


def _script(page: Path) -> str:
    """Join the page's Python blocks, each line where it is on the page, so that a traceback points into it."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * len(text.splitlines())
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_readme_shows_library_use() -> None:
    shown = _script(ROOT / "README.md")
    assert "OnlineDetector" in shown
    assert "coadtr.layers" in shown


@pytest.mark.parametrize("page", [page for page in PAGES if _script(page).strip()], ids=_name)
def test_python_of_a_page_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "coadtr.keras" in _script(page):
        pytest.importorskip("keras", reason="needs the extra `keras`")
    script = tmp_path / f"{page.stem}.py"
    script.write_text(_script(page), encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)  # a reader's folder: empty, with nothing that the page does not make itself
    capsys.readouterr()
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(script), run_name=f"page_{page.stem}")
    printed = capsys.readouterr().out.splitlines()
    expected = PRINT.findall(script.read_text(encoding="utf-8"))
    assert len(printed) == len(expected), printed
    assert [line if said else "" for line, said in zip(printed, expected, strict=True)] == expected
