"""A file answers with what it holds: links, other files' bytes and shapes without data are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore, VideoScores, read_scores, write_scores
from coadtr.errors import DataError, SchemaError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _external(group: Any, field: str, secret: Path) -> None:
    shape, dtype = group[field].shape, group[field].dtype
    del group[field]
    group.create_dataset(field, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def _virtual(group: Any, field: str, secret: Path) -> None:
    shape, dtype = group[field].shape, group[field].dtype
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(str(secret), "data", shape, dtype)
    del group[field]
    group.create_virtual_dataset(field, layout)


def _soft_link(group: Any, field: str, _secret: Path) -> None:
    group.move(field, "elsewhere")
    group[field] = h5py.SoftLink("elsewhere")


def _external_link(group: Any, field: str, secret: Path) -> None:
    del group[field]
    group[field] = h5py.ExternalLink(str(secret), "/data")


ELSEWHERE: dict[str, tuple[Callable[[Any, str, Path], None], str]] = {
    "external storage": (_external, r"is stored in another file \('.*secret'\)"),
    "virtual dataset": (_virtual, "is put together from other datasets"),
    "soft link": (_soft_link, "is a soft link"),
    "external link": (_external_link, "is an external link"),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(bytes(10_000))
    return path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    videos = [VideoScores("v", np.eye(2), np.array([0, 1]), np.array([True, True]))]
    return write_scores(tmp_path / "scores.h5", class_names=["rest", "lift"], attributes={}, videos=videos)


def _refused(error: pytest.ExceptionInfo[DataError], path: Path) -> None:
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value).splitlines()) == 1
    assert error.type is UnsafeFileError


@pytest.mark.parametrize("field", ["rgb", "labels"])
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_store_does_not_read_elsewhere(store: FeatureStore, secret: Path, kind: str, field: str) -> None:
    store.close()
    redirect, message = ELSEWHERE[kind]
    with h5py.File(store.path, "r+") as file:
        redirect(file["videos/a"], field, secret)
    with pytest.raises(UnsafeFileError, match=f"video 'a': field '{field}': {message}") as error:
        FeatureStore(store.path)
    _refused(error, store.path)


@pytest.mark.parametrize("field", ["scores", "labels", "scored"])
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_score_file_does_not_read_elsewhere(scores: Path, secret: Path, kind: str, field: str) -> None:
    redirect, message = ELSEWHERE[kind]
    with h5py.File(scores, "r+") as file:
        redirect(file["videos/v"], field, secret)
    with pytest.raises(UnsafeFileError, match=f"video 'v': field '{field}': {message}") as error:
        read_scores(scores)
    _refused(error, scores)


@pytest.mark.parametrize("kind", ["soft link", "external link"])
@pytest.mark.parametrize("group", ["videos", "videos/a"])
def test_groups_are_not_links(store: FeatureStore, secret: Path, kind: str, group: str) -> None:
    store.close()
    redirect, message = ELSEWHERE[kind]
    with h5py.File(store.path, "r+") as file:
        redirect(file[group].parent, group.rpartition("/")[2], secret)
    where = "group 'videos'" if group == "videos" else "video 'a'"
    with pytest.raises(UnsafeFileError, match=f"{where}: {message}") as error:
        FeatureStore(store.path)
    _refused(error, store.path)


@pytest.mark.parametrize("group", ["videos", "videos/v"])
def test_groups_of_score_files_are_not_links(scores: Path, group: str) -> None:
    with h5py.File(scores, "r+") as file:
        _soft_link(file[group].parent, group.rpartition("/")[2], scores)
    with pytest.raises(UnsafeFileError, match=f"{group.rpartition('/')[2]}': is a soft link") as error:
        read_scores(scores)
    _refused(error, scores)


SHAPES: dict[str, tuple[int, dict[str, Any]]] = {
    "chunked": (10**12, {"chunks": (1024,)}),
    "compressed": (10**12, {"chunks": (1024,), "compression": "gzip"}),
    "contiguous": (10**12, {}),
    "a chunk short": (25, {"chunks": (5,)}),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_shape_without_data(store: FeatureStore, kind: str) -> None:
    store.close()
    frames, layout = SHAPES[kind]
    with h5py.File(store.path, "r+") as file:
        del file["videos/a/labels"]
        labels = file["videos/a"].create_dataset("labels", (frames,), "i8", **layout)
        if "chunks" in layout:
            labels[:10] = 0
    message = rf"video 'a': field 'labels': declares shape \({frames},\) but holds less: import"
    with pytest.raises(DataError, match=message) as error:
        FeatureStore(store.path)
    assert str(error.value).startswith(f"{store.path}: ")


def test_shape_without_data_in_a_score_file(scores: Path) -> None:
    with h5py.File(scores, "r+") as file:
        del file["videos/v/labels"]
        file["videos/v"].create_dataset("labels", (10**12,), "i8", chunks=(1024,))
    with pytest.raises(DataError, match=r"video 'v': field 'labels': declares shape \(1000000000000,\) but holds less"):
        read_scores(scores)


def test_more_than_memory_is_a_data_error(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise MemoryError("Unable to allocate 7 TiB")

    monkeypatch.setattr(np, "empty", full)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", full)
    with pytest.raises(DataError, match=r"video 'a': field 'flow': shape \(25, 3\): does not fit in memory"):
        store.features("a", streams=["flow"])
    with pytest.raises(DataError, match=r"video '.': field 'labels': shape \(\d+,\): does not fit in memory"):
        FeatureStore(store.path)


@pytest.mark.parametrize("names", [[0, 1, 2, 3], [0.5, 1.5, 2.5, 3.5], "abcd"])
def test_class_names_are_text(store: FeatureStore, scores: Path, names: Any) -> None:
    store.close()
    for path in (store.path, scores):
        with h5py.File(path, "r+") as file:
            file.attrs.create("class_names", names)
    with pytest.raises(SchemaError, match=r"class_names.*: class names are a list of texts") as error:
        FeatureStore(store.path)
    assert str(error.value).startswith(f"{store.path}: ")
    with pytest.raises(SchemaError, match=r"class_names.*: class names are a list of texts"):
        read_scores(scores)
