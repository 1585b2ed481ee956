"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


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
