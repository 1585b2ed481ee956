"""What holds for the tests of the package and for its doctests alike."""

from __future__ import annotations

import importlib.util
import os

# Keras reads its backend once, on import; `make test-keras` runs the tests of `coadtr.keras` on each.
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The doctests of a part whose extra is not installed; the tests in tests/keras say that they are skipped.
collect_ignore_glob = [] if importlib.util.find_spec("keras") else ["coadtr/keras/*"]
