"""The published multiply-accumulates, row by row, to the digits given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coadtr.errors import ConfigError
from coadtr.evaluation import published_macs, published_parameters
from coadtr.models import PRESETS, CoOadTRConfig, build_model, preset
from tests.models.sizes import COUNTED

ROWS = {
    "OadTR": "oadtr",
    "OadTR-b2": "oadtr_b2",
    "OadTR-b1": "oadtr_b1",
    "CoOadTR-b2, step": "cooadtr_b2",
    "CoOadTR-b1, step": "cooadtr_b1",
}


def test_all_ten_rows_of_the_published_table(shared_reference: Path) -> None:
    table = (shared_reference / "README.md").read_text()
    seen = 0
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] not in ROWS or len(cells) != 5:
            continue
        for channels, sizes, cell in zip((3072, 4096), cells[1].split(" / "), cells[2:4], strict=True):
            match = re.fullmatch(r"([\d.]+) M", cell)
            assert match is not None
            digits = len(match[1].split(".")[1])
            config = preset(ROWS[cells[0]], input_dim=channels, num_classes=22)
            assert f"{published_macs(config) / 1e6:.{digits}f}" == match[1], (cells[0], channels)
            assert f"{published_parameters(build_model(config)) / 1e6:.1f} M" == sizes, (cells[0], channels)
            seen += 1
    assert seen == 10


def test_audio_example_of_the_paper() -> None:
    sizes = {"input_dim": 128, "num_classes": 10, "embed_dim": 192, "ff_dim": 192, "num_heads": 16, "window": 120}
    assert f"{published_macs(preset('cooadtr_b1', **sizes)) / 1e6:.3f}" == "0.295"
    assert f"{published_macs(preset('cooadtr_b2', **sizes)) / 1e6:.3f}" == "26.997"


@pytest.mark.parametrize("name", COUNTED)
def test_wider_features_cost_their_embedding_and_nothing_else(name: str) -> None:
    narrow, wide = (preset(name, input_dim=dim, num_classes=22) for dim in (3072, 3073))
    tokens = 1 if isinstance(narrow, CoOadTRConfig) else 64
    assert published_macs(wide) - published_macs(narrow) == tokens * 1024


def test_the_presets_with_a_published_count_are_those_of_the_table() -> None:
    assert set(COUNTED) == set(ROWS.values())


@pytest.mark.parametrize("name", sorted(set(PRESETS) - set(COUNTED)))
def test_other_models_have_no_published_count_and_say_so(name: str) -> None:
    config = preset(name, input_dim=8, num_classes=3)
    with pytest.raises(
        ConfigError, match=f"^no published way to count {config.kind}.*: use the executed count instead$"
    ):
        published_macs(config)


def test_deeper_stacks_were_never_published() -> None:
    with pytest.raises(ConfigError, match="cooadtr of depth 3: use the executed count"):
        published_macs(preset("cooadtr_b1", input_dim=8, num_classes=3, depth=3))
