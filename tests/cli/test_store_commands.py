"""Commands that check, draw, convert, split and merge feature stores."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore
from tests.cli.calling import call, contents, refuse, succeed


def test_check_says_what_was_verified(workplace: Path) -> None:
    before = contents(workplace)
    out = succeed("data", "check", "path=data.h5", folder=workplace)
    with FeatureStore(workplace / "data.h5") as store:
        records = store.videos()
    assert out.startswith(f"data.h5: read {len(records)} videos, {sum(record.frames for record in records):,} frames, ")
    assert "no problems: " in out
    assert contents(workplace) == before


def test_check_lists_all_problems(workplace: Path) -> None:
    with h5py.File(workplace / "data.h5", "r+") as file:
        for name in ("a", "e"):
            file["videos"][name]["imu"][3, 1] = np.nan
    checked = call("data", "check", "path=data.h5", folder=workplace)
    assert checked.code == 1
    assert checked.out.count("problem: video ") == 2
    assert checked.err == "coadtr: error: data.h5: has 2 problems, listed above: import or copy it again\n"


def test_inspect_draws_the_timeline(workplace: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    shown = succeed("data", "inspect", "path=data.h5", "plot=new/time.png", "videos=[a,e]", folder=workplace)
    assert shown == succeed("data", "inspect", "path=data.h5", folder=workplace) + "drawn to new/time.png\n"
    assert (workplace / "new" / "time.png").read_bytes().startswith(b"\x89PNG")
    refuse("data", "inspect", "path=data.h5", "plot=time.gif", folder=workplace, code=2, names=("'.gif'", ".svg"))
    refuse("data", "inspect", "path=data.h5", "plot=time.png", "most=0", folder=workplace, code=2, names=("most", "0"))


def test_convert_split_and_merge(workplace: Path) -> None:
    out = succeed(
        *("data", "convert", "path=data.h5", "out=half.h5", "dtype=float16", "compression=gzip"), folder=workplace
    )
    assert "largest rounding error: " in out
    assert "stream 'imu'" in out
    split = ("data", "split", "path=half.h5", "out=few.h5", "videos=[a,e]", "assign.test=a")
    succeed(*split, folder=workplace)
    with FeatureStore(workplace / "few.h5") as few:
        assert [record.name for record in few.videos()] == ["a", "e"]
        assert few.video("a").split == "test"
    succeed("data", "merge", "paths=[data.h5,few.h5]", "out=both.h5", "prefix=true", folder=workplace)
    with FeatureStore(workplace / "both.h5") as both, FeatureStore(workplace / "data.h5") as data:
        names = [record.name for record in both.videos()]
        assert names == [*(f"data_{record.name}" for record in data.videos()), "few_a", "few_e"]
        np.testing.assert_allclose(both.features("few_e"), data.features("e"), rtol=1e-3, atol=1e-6)
    refuse(*split, folder=workplace, code=2, names=("few.h5 exists", "overwrite=true"))
    succeed(*split, "overwrite=true", folder=workplace)


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        ("check", 2, ("path=... must be given",)),
        ("check path=gone.h5", 1, ("gone.h5: no such file",)),
        ("convert path=data.h5", 2, ("out=... must be given",)),
        ("convert path=data.h5 out=b.h5 dtype=int8", 2, ("dtype must be one of null, float16, float32", "'int8'")),
        ("convert path=data.h5 out=b.h5 compression=zip", 2, ("compression must be one of null, gzip, lzf", "'zip'")),
        ("convert path=data.h5 out=data.h5 overwrite=true", 2, ("is also read from",)),
        ("split path=data.h5 out=b.h5", 2, ("nothing is to be changed",)),
        ("split path=data.h5 out=b.h5 videos=[zz]", 2, ("videos: 'zz' fits no video",)),
        ("split path=data.h5 out=b.h5 fractions.train=some", 2, ("fractions.train must be a number", "'some'")),
        ("split path=data.h5 out=b.h5 fractions.train=0.5", 2, ("fractions add up to 0.5, not 1",)),
        ("split path=data.h5 out=b.h5 assign.dev=a", 2, ("assign.dev is not a setting",)),
        ("merge paths=data.h5 out=b.h5", 2, ("paths names 1 stores",)),
        ("merge paths=[data.h5,data.h5] out=b.h5", 1, ("is also in data.h5", "prefix=true")),
        ("merge paths=[data.h5,data.h5] out=b.h5 classes=some", 2, ("classes must be one of same, union", "'some'")),
    ],
)
def test_wrong_calls_end_with_one_line(words: str, code: int, names: tuple[str, ...], workplace: Path) -> None:
    refuse("data", *words.split(), folder=workplace, code=code, names=names)
