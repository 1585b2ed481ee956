"""The published multiply-accumulates, row by row, to the digits given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from coadtr.cli.main import config_folder
from coadtr.errors import ConfigError
from coadtr.evaluation import executed_macs, published_clip_macs, published_macs, published_parameters
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


@pytest.mark.parametrize(
    ("name", "step", "clip", "size"),
    [("cotransformer_b1", "0.295", "15.198", 286_282), ("cotransformer_b2", "26.997", "47.385", 508_618)],
)
def test_audio_example_of_the_paper(name: str, step: str, clip: str, size: int) -> None:
    config = preset(name, input_dim=128, num_classes=10)
    assert f"{published_macs(config) / 1e6:.3f}" == step
    assert f"{published_clip_macs(config) / 1e6:.3f}" == clip
    assert published_parameters(build_model(config)) == size


def test_two_blocks_cost_far_less_than_published_as_they_run() -> None:
    configs = [preset(f"cotransformer_b{depth}", input_dim=128, num_classes=10) for depth in (1, 2)]
    one, two = (executed_macs(config) / published_macs(config) for config in configs)
    assert 0.98 < one <= 1.0
    assert two < 0.65


@pytest.mark.parametrize(("features", "told"), [("anet_audio", "13.8"), ("kinetics_audio", "14.8")])
def test_audio_beside_video_costs_what_the_paper_says(features: str, told: str) -> None:
    sizes = OmegaConf.to_container(OmegaConf.load(config_folder() / f"features/{features}.yaml"))
    assert isinstance(sizes, dict)
    config = preset("cooadtr_b1", **{str(name): value for name, value in sizes.items()})
    assert f"{published_macs(config) / 1e6:.1f}" == told


def test_a_clip_was_counted_of_two_models_alone() -> None:
    for name in ("cooadtr_b3", "oadtr_b1"):
        with pytest.raises(ConfigError, match=r"no published way to count a clip of .*oadtr: use the executed count"):
            published_clip_macs(preset(name, input_dim=8, num_classes=3))


@pytest.mark.parametrize("name", COUNTED)
def test_wider_features_cost_their_embedding_and_nothing_else(name: str) -> None:
    narrow, wide = (preset(name, input_dim=dim, num_classes=22) for dim in (3072, 3073))
    tokens = 1 if isinstance(narrow, CoOadTRConfig) else 64
    width = narrow.embed_dim
    assert published_macs(wide) - published_macs(narrow) == tokens * width


def test_the_presets_with_a_published_count_are_those_of_the_tables() -> None:
    assert set(COUNTED) == {*ROWS.values(), "cotransformer_b1", "cotransformer_b2"}


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
