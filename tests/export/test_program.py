"""Exported ``.pt2`` programs against the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from coadtr.checkpoint import Checkpoint
from coadtr.errors import ConfigError
from coadtr.export import StepGraph, export_program
from tests.checkpoint.making import CHANNELS


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_program_steps_as_the_model_does(checkpoint: Checkpoint, precision: str, tmp_path: Path) -> None:
    path = tmp_path / "b1.pt2"
    agreement = export_program(checkpoint, path, precision=precision)
    assert max(agreement.fresh, agreement.warm) <= (0 if precision == "float32" else 0.05)
    assert [file.name for file in tmp_path.iterdir()] == ["b1.pt2"]
    extra = {"coadtr.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    said = json.loads(extra["coadtr.json"])
    assert (said["format"], said["precision"]) == ("coadtr-pt2", precision)
    graph = StepGraph(checkpoint.model)
    dtypes = {leaf["name"]: leaf["dtype"] for leaf in said["state"]}
    assert tuple(dtypes) == graph.names
    for streams in (1, 3):
        state = graph.fresh(streams)
        given = [leaf.to(getattr(torch, dtype)) for leaf, dtype in zip(state, dtypes.values(), strict=True)]
        for _ in range(10):
            frame = torch.randn(streams, CHANNELS) / checkpoint.model.inputs.scale + checkpoint.model.inputs.mean
            with torch.inference_mode():
                wanted, *state = graph(frame, *state)
                found, *given = program(frame, *given)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6 if precision == "float32" else 0.1)


def test_bad_arguments_are_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"precision='int8': a \.pt2 file takes one of float32, bfloat16"):
        export_program(checkpoint, tmp_path / "x.pt2", precision="int8")
    (tmp_path / "x.pt2").touch()
    with pytest.raises(ConfigError, match="is there already"):
        export_program(checkpoint, tmp_path / "x.pt2")
