"""The encoders of the audio experiment: on real speech, a step answers what the clip of the last N frames does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from coadtr.models import CoOadTR, build_model, preset

RATE, WINDOW_SAMPLES, HOP = 8000, 200, 80


def speech(shared_data: Path, frames: int) -> Tensor:
    """Return ``(1, T, 64)`` standardised log spectra of digits that one speaker says one after the other."""
    path = shared_data / "fsdd/fsdd.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with np.load(path) as file:
        samples = file["samples"][: (frames - 1) * HOP + WINDOW_SAMPLES].astype(np.float64) / 32768
    cut = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP]
    spectra = np.abs(np.fft.rfft(cut * np.hanning(WINDOW_SAMPLES), 256))[:, :128].reshape(frames, 64, 2).mean(-1)
    logs = np.log(spectra + 0.01)
    return torch.from_numpy((logs - logs.mean(0)) / logs.std(0))[None]


@pytest.mark.parametrize("name", ["cotransformer_b1", "cotransformer_b2"])
def test_a_step_on_speech_is_the_clip_of_the_last_frames(name: str, shared_data: Path) -> None:
    frames = speech(shared_data, 400)
    torch.manual_seed(0)
    model = build_model(preset(name, input_dim=64, num_classes=10)).double().eval()
    assert isinstance(model, CoOadTR)
    state, window = model.init_state(1), model.window
    assert window == 120
    with torch.inference_mode():
        for t in range(frames.shape[1]):
            logits, state = model.step(frames[:, t], state)
            if t % 13 == 0 or t in (119, 120, 399):
                first = max(0, t + 1 - window)
                clip = model.answer_clip(frames[:, first : t + 1], torch.tensor([first]))
                torch.testing.assert_close(logits, clip, rtol=0, atol=1e-9)
