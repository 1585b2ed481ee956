"""The runtime runs where nothing but numpy and onnxruntime is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from coadtr.runtime import OnlineDetector
from tests.runtime.conftest import FRAMES, push_all

# What `pip install --no-deps coadtr` and numpy and onnxruntime do not bring cannot be imported.
BARE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"torch", "torchvision", "pandas", "h5py", "pytorch_lightning", "lightning", "hydra", "omegaconf",
                   "continual", "rich", "safetensors", "tensorboard", "torchmetrics", "filelock", "scipy", "sklearn"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
LIGHT = """
import coadtr.runtime
tops = {name.partition(".")[0] for name in sys.modules}
own = {name for name in sys.modules if name.startswith("coadtr.") and not name.startswith("coadtr.runtime")}
assert "onnxruntime" not in tops and "onnx" not in tops, "onnxruntime is loaded before it is needed"
assert own == {"coadtr.errors", "coadtr.scoring"}, own
"""
USED = """
import numpy as np
from coadtr.runtime import EventDecoder, GapPolicy, OnlineDetector
model, frames, answers = sys.argv[1:]
detector = OnlineDetector.from_onnx(model, non_finite="mask", gaps=GapPolicy(missing="hold", reset_after=60.0))
events = EventDecoder(detector.class_names, detector.description.background, detector.rate_hz)
found = []
for index, frame in enumerate(np.load(frames)):
    found.append(detector.push(frame, time=index / 5))
    events.push(found[-1], index / 5)
detector.push_batch({"a": frame, "b": {"rgb": frame[:3], "flow": frame[3:]}})
detector.snapshot(answers + ".snapshot")
detector.restore(answers + ".snapshot")
np.save(answers, np.stack(found))
assert "torch" not in sys.modules
"""


def test_it_runs_without_torch(exported: Path, detector: OnlineDetector, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", FRAMES[:50])
    arguments = [str(exported), str(tmp_path / "frames.npy"), str(tmp_path / "answers.npy")]
    subprocess.run([sys.executable, "-c", BARE + LIGHT + USED, *arguments], check=True)  # noqa: S603
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), push_all(detector, FRAMES[:50]))
