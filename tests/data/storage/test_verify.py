"""A check reads a store whole, counts what it read, and lists all that is wrong, not the first alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter
from coadtr.data.storage.verify import stream_faults, verify
from coadtr.errors import DataError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _damage(path: Path, values: bytes) -> None:
    """Change two bytes in the middle of what a file holds."""
    content = path.read_bytes()
    at = content.index(values) + len(values) // 2
    path.write_bytes(content[:at] + bytes(255 - byte for byte in content[at : at + 2]) + content[at + 2 :])


def test_a_good_store_is_counted(store: FeatureStore) -> None:
    found = verify(store.path)
    assert (found.videos, found.frames, found.problems) == (4, 75, ())
    # One block for each of rgb, flow and labels of four videos.
    assert found.checksums == 12
    assert found.bytes == 75 * (6 * 2 + 3 * 4 + 1) + 12 * 4


def test_all_problems_are_listed(store: FeatureStore, make_video: Callable[..., Any]) -> None:
    store.close()
    with h5py.File(store.path, "r+") as file:
        file["videos/c/flow"][4, 1] = np.nan
        file["videos/c/rgb"][2, 0] = np.inf
        file["videos/b"].attrs["split"] = "dev"
        file["videos/a"].attrs["index"] = 0
        raw = file["videos/d/flow"][:].tobytes()
    _damage(store.path, raw)
    found = verify(store.path)
    assert (found.videos, found.frames) == (3, 25 + 7 + 31)
    assert [problem.partition(" (")[0] for problem in sorted(found.problems)] == [
        "video 'b': unknown split 'dev': use one of 'train', 'validation', 'test'",
        "video 'c': field 'flow': value nan at frame 4, channel 1: repair the source and import it again",
        "video 'c': field 'rgb': value inf at frame 2, channel 0: repair the source and import it again",
        "video 'd': attribute 'index' 0 is also that of 'a': import again",
        "video 'd': field 'flow': is damaged and cannot be read at frames 0 to 30",
    ]
    assert all(len(problem.splitlines()) == 1 for problem in found.problems)


def test_blocks_around_a_damaged_one_are_still_checked(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((5000, 16)).astype(np.float32)
    features[4321, 7] = 1e30
    path = tmp_path / "long.h5"
    with StoreWriter(path, class_names=["x", "y"], streams={"imu": 16}) as writer:
        writer.add("v", split="test", rate_hz=1, features={"imu": features}, labels=np.zeros(5000, int))
    with h5py.File(path, "r+") as file:
        assert file["videos/v/imu"].chunks == (1024, 16)
        file["videos/v/imu"][4321, 7] = -np.inf
    for first in (1024, 3072):
        _damage(path, features[first : first + 1024].tobytes())
    with h5py.File(path) as file:
        damaged, strange = stream_faults(file["videos/v/imu"])
    assert damaged.startswith("is damaged and cannot be read at frames 1024 to 2047 (")
    assert ", and 1 more blocks: import or copy it again" in damaged
    assert strange.startswith("value -inf at frame 4321, channel 7: ")


def test_what_cannot_be_checked_at_all(tmp_path: Path, store: FeatureStore) -> None:
    with pytest.raises(DataError, match=r"gone\.h5: no such file"):
        verify(tmp_path / "gone.h5")
    (tmp_path / "note.h5").write_text("not HDF5")
    with pytest.raises(SchemaError, match=r"note\.h5: is not an HDF5 file"):
        verify(tmp_path / "note.h5")
    store.close()
    with h5py.File(store.path, "r+") as file:
        file["videos/a/secret"] = h5py.ExternalLink("/etc/passwd", "/x")
        del file["videos/a/rgb"]
        file["videos/a/rgb"] = h5py.ExternalLink("other.h5", "/x")
    assert verify(store.path).problems == (
        "video 'a': field 'rgb': is an external link: do not use this file, or copy what it points to into it",
    )
    with h5py.File(store.path, "r+") as file:
        del file["videos"]
        file.create_group("videos")
    assert verify(store.path).problems == ("holds no video: import the data again",)
    with h5py.File(store.path, "r+") as file:
        file.attrs["background"] = 9
    with pytest.raises(SchemaError, match="background class 9"):
        verify(store.path)
