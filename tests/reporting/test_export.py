"""The folder of a report: what is in it, that it is whole or absent, and that nothing else is overwritten."""

from __future__ import annotations

import csv
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from coadtr.errors import ConfigError, DataError, MissingExtraError
from coadtr.reporting import export, find_runs, headline, write_report_folder
from coadtr.reporting.charts import all_charts
from coadtr.reporting.export import latex, markdown
from coadtr.reporting.tables import ReportTable, report_tables
from tests.reporting.conftest import NASTY, write_run

MakeRun = Callable[..., Path]


def listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def short_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the title in place of the page, which takes seconds."""
    monkeypatch.setattr(export, "_page", lambda _, title, *__: title)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Write the whole report of two runs; return its page and what was said on the way."""
    folder, said = tmp_path_factory.mktemp("written"), list[str]()
    runs = find_runs([write_run(folder / "a"), write_run(folder / "b", seed=1)])
    page = write_report_folder(runs, folder / "new/report", title="Two runs", progress=said.append)
    assert page == folder / "new/report/index.html"
    return page, said


@pytest.fixture(scope="module")
def drawn(written: tuple[Path, list[str]]) -> list[str]:
    """Name the charts of these runs."""
    folder = written[0].parents[2]
    return list(all_charts(find_runs([folder / "a", folder / "b"])))


def test_a_report_has_page_figures_and_tables(written: tuple[Path, list[str]], drawn: list[str]) -> None:
    page, said = written
    assert "Two runs" in page.read_text(encoding="utf-8")
    names = {"headline", "per_class", "videos", "paired"}
    figures = {f"figures/{name}.png" for name in drawn}
    tables = {f"tables/{name}.{kind}" for name in names for kind in ("csv", "md", "tex")}
    assert listing(page.parent) == {"index.html", ".coadtr-report.json", *figures, *tables}
    assert {"page", "table headline"} <= set(said)
    assert [path.name for path in page.parent.parent.iterdir()] == ["report"]


def test_figures_are_images_of_twice_the_size(written: tuple[Path, list[str]], drawn: list[str]) -> None:
    images = sorted((written[0].parent / "figures").iterdir())
    assert len(images) == len(drawn) > 5
    for image in images:
        contents = image.read_bytes()
        assert contents[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", contents[16:24])
        assert width > 1200, image.name
        assert height > 100, image.name  # two blocks of a network are a low chart


@pytest.mark.usefixtures("short_page")
def test_a_table_read_back_is_the_table_to_the_last_digit(make_run: MakeRun, tmp_path: Path) -> None:
    runs = find_runs([make_run("a", class_names=NASTY), make_run("b", class_names=NASTY, seed=1)])
    write_report_folder(runs, tmp_path / "report", title="x", png=False, formats=["csv"])
    assert not (tmp_path / "report/figures").exists()
    for table in report_tables(runs):
        with (tmp_path / f"report/tables/{table.name}.csv").open(encoding="utf-8", newline="") as file:
            heads, *rows = csv.reader(file)
        assert heads == list(table.values)
        for cells, (_, values) in zip(rows, table.values.iterrows(), strict=True):
            for cell, value in zip(cells, values, strict=True):
                assert cell == "" if pd.isna(value) else type(value)(cell) == value
    assert headline(runs)["mAP"].tolist() == [run.report["mAP"] for run in runs]


@pytest.mark.usefixtures("short_page")
def test_a_report_is_replaced_whole(make_run: MakeRun, tmp_path: Path) -> None:
    runs = find_runs([make_run("a", videos=2), make_run("b", videos=2, seed=1)])
    out = tmp_path / "out/report"
    write_report_folder(runs, out, title="first", png=False)
    write_report_folder(runs[:1], out, title="second", png=False, formats=["md"])
    assert listing(out) == {
        "index.html",
        ".coadtr-report.json",
        *(f"tables/{n}.md" for n in ("headline", "per_class", "videos")),
    }
    assert "second" in (out / "index.html").read_text(encoding="utf-8")
    assert [path.name for path in out.parent.iterdir()] == ["report"]
    write_report_folder(runs[:1], out, title="third", png=False, formats=())
    assert listing(out) == {"index.html", ".coadtr-report.json"}


@pytest.mark.usefixtures("short_page")
@pytest.mark.parametrize("at", ["page", "figure", "table", "end"])
def test_what_fails_on_the_way_leaves_what_was_there(
    at: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = find_runs([make_run("a", videos=2)])
    out = tmp_path / "out/report"
    write_report_folder(runs, out, title="first", png=False)
    before = {name: (out / name).read_bytes() for name in listing(out)}

    def fail(what: str) -> None:
        if what.startswith(at):
            raise KeyboardInterrupt

    if at == "end":
        rename = Path.rename

        def refuse(path: Path, target: Path) -> Path:
            if path.suffix == ".part":
                raise OSError("no")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError if at == "end" else KeyboardInterrupt):
        write_report_folder(runs, out, title="second", progress=fail, png=at != "end")
    assert {name: (out / name).read_bytes() for name in listing(out)} == before
    assert [path.name for path in out.parent.iterdir()] == ["report"]
    with pytest.raises(OSError if at == "end" else KeyboardInterrupt):
        write_report_folder(runs, tmp_path / "new/deep", title="second", progress=fail, png=at != "end")
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("short_page")
def test_what_is_no_report_is_not_overwritten(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", videos=2)
    runs = find_runs([run])
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    before = listing(tmp_path)
    for out, words in (
        (run, "holds no report: name another"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "link", "is a link"),
    ):
        with pytest.raises(ConfigError, match=words):
            write_report_folder(runs, out, title="x")
    with pytest.raises(DataError, match="file"):
        write_report_folder(runs, tmp_path / "file/report", title="x")
    assert listing(tmp_path) == before
    assert write_report_folder(runs, tmp_path / "empty", title="x", png=False).is_file()


def test_bad_settings_are_named(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = find_runs([make_run("a", videos=2)])
    with pytest.raises(ConfigError, match="'xlsx'; choose of csv, md, tex"):
        write_report_folder(runs, tmp_path / "out", title="x", formats=["csv", "xlsx"])
    with pytest.raises(ConfigError, match="at least one run"):
        write_report_folder([], tmp_path / "out", title="x")
    monkeypatch.setattr(export, "_NEEDED", {"no_such_package": "Altair"})
    with pytest.raises(MissingExtraError, match=r'needs Altair: run `pip install "coadtr\[report\]"`'):
        write_report_folder(runs, tmp_path / "out", title="x")
    assert not (tmp_path / "out").exists()


def test_notes_are_on_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    runs = find_runs([make_run("a", videos=2)])
    page = write_report_folder(runs, tmp_path / "out", title="x", notes=["These runs differ in <data>"], png=False)
    text = page.read_text(encoding="utf-8")
    assert "These runs differ in &lt;data&gt;" in text
    assert "<title>x</title>" in text


def nasty_table(rows: int = 1) -> ReportTable:
    shown = pd.DataFrame({"class": [*NASTY, "two\nlines"] * rows, "50% a_b": ["1.0"] * 7 * rows})
    return ReportTable(name="t", caption="Shares, 95 % interval.", values=shown, shown=shown)


def test_markdown_is_one_line_a_row_with_all_text_escaped() -> None:
    lines = markdown(nasty_table()).splitlines()
    assert lines[:4] == ["Shares, 95 % interval.", "", "| class | 50% a\\_b |", "|:--|--:|"]
    assert lines[4:] == [
        "| none | 1.0 |",
        "| \\<b\\>\\&amp;\\</b\\> | 1.0 |",
        '| say "hi", it\'s | 1.0 |',
        "| a\\_b\\|50% \\$x^2\\$ {y} | 1.0 |",
        "| \\</script\\>\\\\n\\~\\#1 | 1.0 |",
        "| läuft 走る | 1.0 |",
        "| two lines | 1.0 |",
    ]


def test_latex_has_rules_and_all_text_escaped() -> None:
    text = latex(nasty_table())
    assert text.startswith("% Needs \\usepackage{booktabs}\n\\begin{table}")
    for line in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\caption{Shares, 95 \% interval.}",
        r"\begin{tabular}{lr}",
        r"class & 50\% a\_b \\",
        r"<b>\&amp;</b> & 1.0 \\",
        r"a\_b|50\% \$x\textasciicircum 2\$ \{y\} & 1.0 \\",
        r"</script>\textbackslash n\textasciitilde \#1 & 1.0 \\",
        r"two lines & 1.0 \\",
    ):
        assert line in text.splitlines(), line
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    assert not re.search(r"(?<!\\)[%$#_]", body)
    assert body.count(r"\\") == 7


def test_a_long_table_runs_over_pages() -> None:
    text = latex(nasty_table(rows=10))
    assert text.startswith("% Needs \\usepackage{booktabs,longtable}\n\\begin{longtable}{lr}")
    assert text.count(r"none & 1.0 \\") == 10


def test_two_columns_may_have_one_name() -> None:
    shown = pd.DataFrame([["x", "1", "2"]], columns=["class", "a", "a"])
    table = ReportTable(name="t", caption="c", values=shown, shown=shown)
    assert r"class & a & a \\" in latex(table)
    assert "| x | 1 | 2 |" in markdown(table)
