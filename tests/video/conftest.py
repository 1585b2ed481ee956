"""Videos written by the tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.video import writing


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Return a function that writes a video."""
    return writing.write_video


@pytest.fixture(scope="session")
def written_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of four short videos; not to be written to."""
    folder = tmp_path_factory.mktemp("videos")
    for name, frames in (("a", 40), ("b", 61), ("c", 35), ("d", 50)):
        writing.write_video(folder / f"{name}.mp4", frames, size=(96, 128))
    return folder


@pytest.fixture
def clips(written_clips: Path, tmp_path: Path) -> Path:
    """Return a folder of this test's own, with the same in it."""
    return Path(shutil.copytree(written_clips, tmp_path / "clips"))
