"""Streams that the tests of the Keras layers share."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


def pytest_runtest_setup() -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("needs the extra `keras`: make test-keras runs these tests")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def stream(rng: np.random.Generator) -> NDArray[Any]:
    """Two streams of many windows, ``(2, 60, 6)``."""
    return rng.normal(size=(2, 60, 6)).astype(np.float32)
