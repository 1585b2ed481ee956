"""Fixtures that every test may use."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


def pytest_sessionstart() -> None:
    """Import and collect without the collector of garbage: there is none, and it looks at all that is kept."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Spare the collector what was imported and collected, and stays until the end."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Let go of it all."""
    gc.unfreeze()


def _shared(folder: str) -> Path:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"needs the folder ../shared/{folder} beside the checkout (CI and developers have it)")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings with frame labels."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Folder of outputs of the published implementations."""
    return _shared("reference")
