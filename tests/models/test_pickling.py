"""Models can be pickled, and building one does not load torch's compiler, which takes seconds."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch

from coadtr.models import PRESETS, build_model
from tests.models.sizes import small


@pytest.mark.parametrize("name", PRESETS)
def test_a_pickled_model_answers_as_before(name: str) -> None:
    model, frames = build_model(small(name)).eval(), torch.randn(2, 3, 6)
    with torch.no_grad():
        expected = model(frames)
        assert torch.equal(pickle.loads(pickle.dumps(model))(frames), expected)


@pytest.mark.slow
def test_recurrent_models_are_built_and_run_without_the_compiler() -> None:
    program = (
        "import sys, torch\n"
        "from coadtr.models import build_model, preset\n"
        "for name in ('miniroad', 'trn'):\n"
        "    model = build_model(preset(name, input_dim=2, num_classes=2, embed_dim=2, hidden_dim=2))\n"
        "    model(torch.zeros(1, 2, 2))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
