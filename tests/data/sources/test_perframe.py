"""Published per-frame labels: damaged and hostile files are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data.sources.perframe import read_perframe
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path

PERFRAME: dict[str, Any] = {
    "labels": np.array([0, 1, 1]),
    "offsets": np.array([0, 1, 3]),
    "names": np.array(["a", "b"]),
    "video_fps": np.array([30.0, np.nan]),
    "class_names": np.array(["Background", "Dive"]),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 1, 2])}, "field 'offsets' does not rise from 0 to 3"),
        ({"offsets": np.array([0, 3])}, "field 'offsets' has 2 entries for 2 videos: give 3"),
        ({"video_fps": np.array([30.0])}, "field 'video_fps' has 1 entries for 2 videos"),
        ({"labels": np.array([0, 1, 2])}, r"class 2 at frame 2 is outside 0\.\.1"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, r"field 'labels' is float64 of shape \(3,\)"),
        ({"names": np.array(["a", "a"])}, "field 'names' lists 'a' twice"),
        ({"names": np.array(["../a", "b"])}, "'../a' cannot be stored"),
    ],
)
def test_per_frame_label_faults(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "val_perframe.npz"
    np.savez(path, **{**PERFRAME, **change})
    with pytest.raises(DataError, match=message):
        read_perframe(path)


def test_per_frame_labels_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "val_perframe.npz"
    np.savez(path, **{**PERFRAME, "names": np.array(["a", None], dtype=object)}, allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="field 'names' holds pickled objects"):
        read_perframe(path)
    with pytest.raises(DataError, match="no such file"):
        read_perframe(tmp_path / "test_perframe.npz")
