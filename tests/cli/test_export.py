"""``coadtr export``: runs as folders, runs and checkpoints as files that run elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coadtr.checkpoint import OnlineDetector
from coadtr.runtime import OnlineDetector as RuntimeDetector
from tests.cli.calling import contents, refuse, succeed


def test_a_run_is_exported_to_a_folder_and_to_a_file(workplace: Path) -> None:
    said = succeed("export", "run=run", "which=last", "out=last", folder=workplace)
    assert said.startswith("exported epoch 1 (validation mAP 0.")
    said = succeed("export", "run=run", "which=last", "format=onnx", folder=workplace)
    assert said.startswith("exported run/checkpoint to run/checkpoint.onnx (onnx, 0.0")
    assert "its scores differ from the model's by at most " in said
    frames = np.random.default_rng(0).normal(size=(20, 8)).astype("f4")
    wanted = OnlineDetector.load(workplace / "last").push_many(frames)
    found = RuntimeDetector.from_onnx(workplace / "run" / "checkpoint.onnx").push_many(frames)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_a_checkpoint_is_exported_beside_its_folder(workplace: Path) -> None:
    file, words = "run/checkpoint-bfloat16.pt2", ("export", "checkpoint=run/checkpoint", "format=pt2")
    (workplace / file).write_bytes(b"of another day")
    before = contents(workplace)
    names = (f"{file} is there already", "overwrite=true")
    refuse(*words, "precision=bfloat16", folder=workplace, code=2, names=names)
    said = succeed(*words, "precision=bfloat16", "overwrite=true", folder=workplace)
    assert said.startswith(f"exported run/checkpoint to {file} (pt2, ")
    assert contents(workplace).keys() == before.keys()
    assert (workplace / file).stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("export", ("give one of run=", "checkpoint=")),
        ("export run=run checkpoint=run/checkpoint", ("give one of run=", "checkpoint=")),
        ("export checkpoint=run/checkpoint", ("format=native exports a run", "run=")),
        ("export run=run precision=int8", ("precision=int8", "format=native keeps the weights")),
        ("export run=run format=tflite", ("format must be one of native, onnx, pt2", "'tflite'")),
        ("export checkpoint=run/checkpoint format=onnx precision=int4", ("precision='int4'", "float16")),
        ("export checkpoint=run/checkpoint format=onnx to=pt2", ("format=onnx and to=pt2 are one setting",)),
        (
            "export checkpoint=run/checkpoint format=pt2 out=x.onnx",
            ("out=x.onnx: what reads the file", "end it in .pt2"),
        ),
        ("export run=run format=onnx which=worst", ("which must be best or last", "'worst'")),
    ],
)
def test_wrong_calls_are_named(words: str, names: tuple[str, ...], workplace: Path) -> None:
    refuse(*words.split(), folder=workplace, code=2, names=names)


def test_a_checkpoint_that_is_not_there_is_named(workplace: Path) -> None:
    words = ("export", "checkpoint=nowhere", "format=onnx")
    refuse(*words, folder=workplace, code=1, names=("nowhere: there is no such folder",))
