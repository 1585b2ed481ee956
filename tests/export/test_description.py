"""What an exported file says of itself is JSON that every reader reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coadtr.checkpoint import load
from coadtr.export.description import describe
from coadtr.export.graph import StepGraph
from coadtr.runtime.description import Description
from tests.checkpoint.making import save_small


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("name", ["cooadtr_b1", "testra", "lstr", "grab"])
def test_any_reader_of_json_finds_the_fresh_state(name: str, tmp_path: Path) -> None:
    checkpoint = load(save_small(tmp_path, name))
    graph = StepGraph(checkpoint.model)
    text = describe(checkpoint, graph, form="coadtr-onnx", precision="float32", opset=20)
    told = json.loads(text, parse_constant=refuse)
    assert [leaf["name"] for leaf in told["state"]] == list(graph.names)
    found = Description.from_json(text).state
    for leaf, fresh in zip(found, graph.fresh(1), strict=True):
        np.testing.assert_array_equal(leaf.fresh, fresh[0].numpy())
