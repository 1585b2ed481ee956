"""Importing TVSeries that is damaged or does not fit: all that is wrong is told at once, and nothing is left behind."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import import_features
from coadtr.errors import ConfigError, DataError, UnsafeFileError
from tests.data.importers.tvseries_source import CLASSES, TEST, TRAIN, action_row, multi_hot, write_tvseries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


FEATURES, ANNO = "tvseries_anet_features.pickle", "tvseries_anno.pickle"
PICKLE_FAULTS: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "features missing": (FEATURES, lambda c: c.pop("24_ep4"), "video '24_ep4': .*pickle: has no features of it"),
    "features a list": (FEATURES, lambda c: c["24_ep4"].update(rgb=[1]), "'24_ep4': .* field 'rgb' is a list: give an"),
    "rank": (FEATURES, lambda c: c["24_ep4"].update(rgb=np.zeros(40)), r"field 'rgb' has shape \(40,\): give \(T, D\)"),
    "width": (FEATURES, lambda c: c["24_ep4"].update(rgb=np.zeros((40, 7))), r"'24_ep4': field 'rgb': shape \(40, 7\)"),
    "stream missing": (
        FEATURES,
        lambda c: c["24_ep4"].pop("flow"),
        "'24_ep4': has streams 'rgb' but the store declares",
    ),
    "NaN": (
        FEATURES,
        lambda c: c["24_ep1"]["flow"].__setitem__((2, 3), np.nan),
        "'24_ep1': field 'flow': value nan at",
    ),
    "much longer": (
        FEATURES,
        lambda c: c["24_ep1"].update(rgb=np.zeros((50, 2048))),
        "'24_ep1': lengths differ .* more",
    ),
    "a frame short": (ANNO, lambda c: c.update({"24_ep1": c["24_ep1"][:-1]}), "'24_ep1': lengths differ .* align=trim"),
    "no frame": (
        FEATURES,
        lambda c: c["24_ep1"].update(rgb=np.zeros((0, 2048)), flow=np.zeros((0, 2048))),
        "'24_ep1': field 'rgb': holds no frame: leave the video out",
    ),
    "annotation missing": (ANNO, lambda c: c.pop("24_ep1"), "tvseries_anno.pickle: video '24_ep1': has no annotation"),
    "classes": (ANNO, lambda c: c.update({"24_ep1": np.ones((40, 30))}), r"annotation is float64 of shape \(40, 30\)"),
    "soft labels": (ANNO, lambda c: c.update({"24_ep1": np.full((40, 31), 0.5)}), "annotation has values other than 0"),
    "unlabelled": (ANNO, lambda c: c["24_ep1"].__setitem__(7, False), "annotation has no class at frame 7"),
    "number as name": (ANNO, lambda c: c.update({24: c["24_ep1"]}), "has a key 24: its keys must be names of videos"),
    "both": (
        ANNO,
        lambda c: (c.pop("24_ep1"), c.pop("24_ep4")),
        "'24_ep1': has no annotation.*'24_ep4': has no annotation",
    ),
}


@pytest.mark.parametrize("kind", PICKLE_FAULTS)
def test_damaged_pickles(tmp_path: Path, kind: str) -> None:
    file, change, message = PICKLE_FAULTS[kind]
    write_tvseries(tmp_path / "tv", labels=multi_hot(CLASSES))
    _edit(tmp_path / "tv" / file, change)
    with pytest.raises(DataError, match=message) as caught:
        import_features("tvseries", tmp_path / "tv", tmp_path / "out" / "out.h5", class_order="published")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tv"]


TEXT_FAULTS: dict[str, tuple[str, str]] = {
    "unknown class": (
        action_row("24_ep1", "Throw", 1, 2),
        "GT-train.txt: row 5: class 'Throw' is not on the list: the nearest known name is 'Throw something'",
    ),
    "misspelt class": (
        action_row("24_ep1", "Anser phone", 1, 2),
        "row 5: class 'Anser phone' .* name is 'Answer phone'",
    ),
    "background": (
        action_row("24_ep1", "Background", 1, 2),
        "row 5: class 'Background' is the background, which no action",
    ),
    "title line": ("video\tDrink\tstart\tend" + "\t0" * 12, "row 5: from 'start' to 'end': give seconds as numbers"),
    "few fields": ("24_ep1\tDrink\t1\t2", "row 5: has 4 fields: give video, class, start, end and 12 properties"),
    "commas": (action_row("24_ep1", "Drink", 1, 2).replace("\t", ","), "row 5: has 1 fields"),
    "end before start": (action_row("24_ep1", "Drink", 2, 1), "row 5: from 2 to 1 s: the end must lie after the start"),
    "empty": (action_row("24_ep1", "Drink", 2, 2), "row 5: from 2 to 2 s: the end must lie after the start"),
    "not a number": (action_row("24_ep1", "Drink", 1, float("nan")), "row 5: from 1 to nan s"),
    "endless": (action_row("24_ep1", "Drink", 1, float("inf")), "row 5: from 1 to inf s"),
    "negative": (action_row("24_ep1", "Drink", -1, 2), "row 5: from -1 to 2 s"),
    "past the end": (
        action_row("24_ep1", "Drink", 1, 60),
        "video '24_ep1': GT-train.txt: row 5, segment 1 to 60 s: runs past the end of the video .*outside=cut",
    ),
    "repeated": (
        action_row("24_ep1", "Answer phone", 1, 3),
        "row 5: repeats row 1: drop one of the two",
    ),
    "property": (
        action_row("24_ep1", "Drink", 1, 2).replace("\t0", "\tno", 1),
        "row 5: property 'no': .* 12 times 0 or 1",
    ),
    "test video": (
        action_row("24_ep4", "Drink", 1, 2),
        "GT-test.txt: row 1: video '24_ep4' stands in GT-train.txt too",
    ),
    "two at once": (
        action_row("24_ep1", "Fly", 1, 2) + "\n" + action_row("24_ep1", "Drink", 2, 1),
        "row 5: class 'Fly' is not on the list.*row 6: from 2 to 1 s",
    ),
}


@pytest.mark.parametrize("kind", TEXT_FAULTS)
def test_damaged_text(tmp_path: Path, kind: str) -> None:
    row, message = TEXT_FAULTS[kind]
    write_tvseries(tmp_path / "tv", text=True)
    with (tmp_path / "tv" / "GT-train.txt").open("a") as file:
        file.write(row)
    with pytest.raises(DataError, match=message) as caught:
        import_features("tvseries", tmp_path / "tv", tmp_path / "out.h5")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tv"]


def test_text_and_lists_that_do_not_fit(tmp_path: Path) -> None:
    folder, out = tmp_path / "tv", tmp_path / "out.h5"
    write_tvseries(folder, text=True)
    val = folder / "GT-val.txt"
    row = val.read_text(encoding="latin-1")
    val.write_text(row + action_row("24_ep9", "Drink", 1, 2), encoding="latin-1")
    report = import_features("tvseries", folder, out)
    assert report.warnings[0] == "videos '24_ep9' are annotated but on no list: left out"
    val.write_text(action_row("Mad_Men_ep9", "Drink", 1, 2))
    with pytest.raises(
        DataError, match=r"'Sons_of_Anarchy_ep2': has no line in 'GT-train.txt', .*both must hold videos"
    ):
        import_features("tvseries", folder, tmp_path / "other.h5")
    val.write_text("")
    with pytest.raises(DataError, match=r"GT-val\.txt: holds no line: copy it again"):
        import_features("tvseries", folder, tmp_path / "other.h5")
    val.unlink()
    with pytest.raises(DataError, match=r"no file GT-val\.txt: add it beside the others, .*annotation=pickle"):
        import_features("tvseries", folder, tmp_path / "other.h5")
    val.write_text(row, encoding="latin-1")
    info = json.loads((folder / "data_info_new.json").read_text())
    info["TVSERIES"].update(train_session_set=[*TRAIN[:3], TEST[0]], test_session_set=[TRAIN[3], "../../etc/passwd"])
    (folder / "data_info_new.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"video name '\.\./\.\./etc/passwd' cannot be stored"):
        import_features("tvseries", folder, tmp_path / "other.h5")
    info["TVSERIES"]["test_session_set"].pop()
    (folder / "data_info_new.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"'24_ep4': is in GT-test\.txt but on the train list: use text and list of"):
        import_features("tvseries", folder, tmp_path / "other.h5")


def test_files_and_options(tmp_path: Path) -> None:
    folder, out = tmp_path / "tv", tmp_path / "out.h5"
    write_tvseries(folder, labels=multi_hot(CLASSES))
    with pytest.raises(
        DataError, match=r"tvseries_anno\.pickle: names no classes: say what its columns are with class_o"
    ):
        import_features("tvseries", folder, out)
    for option, message in {
        "features": "features='i3d': use one of 'anet', 'kin'",
        "annotation": "annotation='i3d': use one of 'auto', 'text', 'pickle'",
        "class_order": "class_order='i3d': use one of published, alphabetical, cooadtr, or a file",
        "rule": "rule='i3d': use one of 'oadtr'",
        "overlap": "overlap='i3d': use one of 'multi-hot'",
        "outside": "outside='i3d': use one of 'error', 'cut'",
    }.items():
        unknown: dict[str, Any] = {option: "i3d"}
        with pytest.raises(ConfigError, match=message):
            import_features("tvseries", folder, out, **unknown)
    with pytest.raises(ConfigError, match="rule='lstr' is for features at 4 Hz, not 5 Hz"):
        import_features("tvseries", folder, out, rule="lstr")
    with pytest.raises(DataError, match=r"last column is set at frame [0-9]+, where class_order=cooadtr has none"):
        import_features("tvseries", folder, out, class_order="cooadtr")
    (folder / FEATURES).write_bytes(b"cos\nsystem\n(S'echo unsafe > mark'\ntR.")
    with pytest.raises(UnsafeFileError, match=r"features\.pickle: the pickle asks for os\.system"):
        import_features("tvseries", folder, out, class_order="published")
    (folder / FEATURES).write_bytes(pickle.dumps({"a": np.arange(500.0)})[:-700])
    with pytest.raises(DataError, match=r"tvseries_anet_features\.pickle: is not a whole pickle"):
        import_features("tvseries", folder, out, class_order="published")
    (folder / "data_info_new.json").write_text('{"HDD": {}}')
    with pytest.raises(
        DataError, match=r"has no data set 'TVSERIES', only 'HDD': name the list file that has it with inf"
    ):
        import_features("tvseries", folder, out, class_order="published")
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(
        DataError, match=r"no file tvseries_anet_features\.pickle or .*no file data_info.*no file tvseries_anno"
    ):
        import_features("tvseries", folder, out)
    assert [path.name for path in tmp_path.iterdir()] == ["tv"]
