"""Write a report: the page, the figures as images, the tables as files. The folder is whole or absent."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import coadtr
from coadtr.data.atomic import make_folders, put_folder, remove_empty, replacing
from coadtr.errors import ConfigError, DataError, MissingExtraError
from coadtr.reporting.tables import ReportTable, paired_of, report_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from coadtr.reporting.runs import Run

__all__ = ["FORMATS", "check_extra", "check_target", "latex", "markdown", "write_report_folder"]

FORMATS: Final = ("csv", "md", "tex")

_MARKER: Final = ".coadtr-report.json"
_NEEDED: Final = {"altair": "Altair", "jinja2": "Jinja2", "vl_convert": "vl-convert"}
_SCALE: Final = 2  # pixels of an image for each of the chart
_PAGE: Final = 45  # rows of a table that LaTeX can put on one page


def write_report_folder(
    runs: Sequence[Run],
    out: str | Path,
    *,
    title: str,
    notes: Sequence[str] = (),
    tables: Sequence[ReportTable] | None = None,
    png: bool = True,
    formats: Sequence[str] = FORMATS,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write the report of some runs: ``index.html``, ``figures/*.png`` and ``tables/*``.

    All is written to a hidden folder beside ``out``, which takes its name when complete. A report that is there is
    replaced; until then it stays as it is.

    Args:
        runs: The runs, at least one. Whether they may be compared is for the caller to judge
            (`coadtr.reporting.check_comparable`).
        out: Folder to write. It may be missing, empty, or a report of this function.
        title: Heading of the page.
        notes: What readers should know first, such as in what the runs differ.
        tables: The tables, if they have been made.
        png: Whether to draw the figures as images too, at two pixels a point.
        formats: Kinds of table files: some of ``csv`` (full precision), ``md`` and ``tex`` (rounded as their captions
            say).
        progress: Called with what is to be done next.

    Returns:
        The path of the page.

    Raises:
        ConfigError: No run is given, a format is unknown, or ``out`` holds something else.
        DataError: The folder cannot be written.
        MissingExtraError: The extra ``report`` is not installed.

    Example:
        >>> write_report_folder([], "report", title="Nothing")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: a report needs at least one run, and none was given; name the folder of a replay
    """
    if not runs:
        raise ConfigError("a report needs at least one run, and none was given; name the folder of a replay")
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"unknown format of tables {unknown[0]!r}; choose of {', '.join(FORMATS)}")
    check_extra()
    out = Path(out).absolute()
    check_target(out)
    say = progress or (lambda _: None)
    made = make_folders(out.parent)
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    complete = False
    try:
        _make(part)
        tables = report_tables(runs) if tables is None else tables
        _write_tables(tables, part / "tables", formats, say)
        say("page")
        _write(part / "index.html", _page(runs, title, notes, paired_of(tables)))
        if png:
            _write_figures(runs, part / "figures", say)
        # Last, so that a folder with a marker is a whole report.
        about = {"format": "coadtr-report-folder", "coadtr": coadtr.__version__, "runs": [run.name for run in runs]}
        _write(part / _MARKER, json.dumps(about, ensure_ascii=False) + "\n")
        check_target(out)  # once more: drawing takes a while
        put_folder(part, out)
        complete = True
    finally:
        if not complete:
            shutil.rmtree(part, ignore_errors=True)
            remove_empty(made)
    return out / "index.html"


def check_extra() -> None:
    """Refuse to start where what draws a report is not installed.

    Raises:
        MissingExtraError: A package of the extra ``report`` is missing.

    Example:
        >>> check_extra()
    """
    for module, name in _NEEDED.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingExtraError(f'a report needs {name}: run `pip install "coadtr[report]"`') from error


def check_target(out: Path) -> None:
    """Refuse to write a report where something else is.

    Args:
        out: The folder to write.

    Raises:
        ConfigError: It is a file, or a folder with other contents.

    Example:
        >>> import tempfile
        >>> check_target(Path(tempfile.mkdtemp()))
    """
    if out.is_dir() and not out.is_symlink():
        if (out / _MARKER).is_file() or not any(out.iterdir()):
            return
        raise ConfigError(f"out={out} is a folder that holds no report: name another, or one that does not exist yet")
    if out.exists() or out.is_symlink():
        raise ConfigError(f"out={out} is {'a link' if out.is_symlink() else 'a file'}: name a folder for the report")


def _make(folder: Path) -> None:
    try:
        folder.mkdir()
    except OSError as error:
        raise DataError(f"{folder.parent}: cannot be written ({error.strerror}): choose another out") from error


def _write(path: Path, contents: str | bytes) -> None:
    with replacing(path) as part:
        if isinstance(contents, bytes):
            part.write_bytes(contents)
        else:
            part.write_text(contents, encoding="utf-8")


def _page(runs: Sequence[Run], title: str, notes: Sequence[str], tests: pd.DataFrame | None) -> str:
    from coadtr.reporting.page import render_page  # noqa: PLC0415 - needs the extra

    return render_page(runs, title=title, notes=notes, tests=tests)


def _write_figures(runs: Sequence[Run], folder: Path, say: Callable[[str], None]) -> None:
    import vl_convert  # noqa: PLC0415 - needs the extra

    from coadtr.reporting.charts import all_charts  # noqa: PLC0415

    for name, chart in all_charts(runs).items():
        say(f"figure {name}")
        drawing: bytes = vl_convert.vegalite_to_png(chart.to_dict(), scale=_SCALE)
        _write(folder / f"{name}.png", drawing)


def _write_tables(
    tables: Sequence[ReportTable], folder: Path, formats: Sequence[str], say: Callable[[str], None]
) -> None:
    writers: dict[str, Callable[[ReportTable], str]] = {
        "csv": lambda table: table.values.to_csv(index=False, lineterminator="\n"),
        "md": markdown,
        "tex": latex,
    }
    for table in tables:
        say(f"table {table.name}")
        for kind in formats:
            _write(folder / f"{table.name}.{kind}", writers[kind](table))


def markdown(table: ReportTable) -> str:
    r"""Write a table in Markdown, its caption above; text of files cannot act as markup.

    Args:
        table: The table.

    Example:
        >>> import pandas as pd
        >>> shown = pd.DataFrame({"class": ["a|b"], "AP": ["70.4"]})
        >>> print(markdown(ReportTable(name="t", caption="By class.", values=shown, shown=shown)), end="")
        By class.
        <BLANKLINE>
        | class | AP |
        |:--|--:|
        | a\|b | 70.4 |
    """
    heads = [str(name) for name in table.shown.columns]
    rules = [":--" if index < table.headings else "--:" for index in range(len(heads))]
    rows = [heads, *([str(cell) for cell in row] for row in table.shown.itertuples(index=False))]
    lines = [f"| {' | '.join(_plain_markdown(cell) for cell in row)} |" for row in rows]
    return "\n".join([table.caption, "", lines[0], f"|{'|'.join(rules)}|", *lines[1:], ""])


def _plain_markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~$#&])", r"\\\1", " ".join(text.split()))


def latex(table: ReportTable) -> str:
    r"""Write a table in LaTeX for the package ``booktabs``, all text escaped.

    Args:
        table: The table.

    Example:
        >>> import pandas as pd
        >>> shown = pd.DataFrame({"class": ["a_b"], "AP": ["70.4"]})
        >>> r"a\_b & 70.4 \\" in latex(ReportTable(name="t", caption="By class.", values=shown, shown=shown))
        True
    """
    long = len(table.shown) > _PAGE
    # Styler refuses column names that come twice, as those of runs may once they are text: number them, and show the
    # names.
    heads = [" ".join(str(name).split()) for name in table.shown.columns]
    body = table.shown.set_axis(range(len(heads)), axis=1).map(lambda cell: " ".join(str(cell).split()))
    styler = (
        body.style.format(escape="latex")
        .hide(axis="index")
        .format_index(lambda place: _escaped(heads[int(str(place))]), axis=1)
    )
    written: Any = styler.to_latex(
        hrules=True,
        caption=_escaped(table.caption),
        label=f"tab:{table.name}",
        position_float=None if long else "centering",
        column_format="l" * table.headings + "r" * (len(heads) - table.headings),
        environment="longtable" if long else None,
    )
    return f"% Needs \\usepackage{{booktabs{',longtable' if long else ''}}}\n{written}"


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda found: special.get(found[0], "\\" + found[0]), text)
