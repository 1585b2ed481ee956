"""The worked example of docs/data.md: from clips and a table of segments to a detector and its report."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import coadtr
from coadtr.data import FeatureStore
from tests.cli.calling import QUICK, ROOT, SMALL, refuse, succeed


def section() -> tuple[str, list[list[str]]]:
    """Return the table that the page prints, and the words of the commands that it gives for it."""
    page = (ROOT / "docs/data.md").read_text()
    (text,) = re.findall(r"^## Your own videos\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    table, commands = blocks[:2]
    return table, [shlex.split(line) for line in commands.splitlines()]


@pytest.fixture(scope="module")
def worked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the three commands of the page were run, on real clips, with a small model."""
    pytest.importorskip("av", reason="needs the extra `video`")
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(shared_data / "clips", folder / "clips")
    table, commands = section()
    (folder / "segments.csv").write_text(table)
    assert [words[:2] for words in commands] == [["coadtr", name] for name in ("extract", "train", "replay")]
    extract, train, replay = (words[1:] for words in commands)
    succeed(*extract, folder=folder)
    succeed(*train, *SMALL, "trainer.max_epochs=2", "trainer.sequence_length=16", folder=folder)
    succeed(*replay, *QUICK, folder=folder)
    return folder


def test_videos_and_a_table_become_a_labelled_store(worked: Path) -> None:
    with FeatureStore(worked / "data/own.h5") as store:
        assert store.class_names == ("background", "talk", "move")
        assert (store.background, store.streams, store.rate_hz()) == (0, {"rgb": 1280}, 4.0)
        assert {video.name: video.split for video in store.videos()} == {
            "carphone_pristine": "train",
            "demo_arm_wrestling": "train",
            "flipping_a_pancake": "validation",
            "mmaction_test": "test",
        }
        assert store.attributes["label_rule"] == "centre"
        assert store.extractors["rgb"]["backbone"] == "efficientnet_lite0"
        # Frame i stands for i/4 to (i + 1)/4 seconds: 1.0 to 4.0 s are frames 4 to 15.
        assert [index for index, label in enumerate(store.labels("mmaction_test")) if label == 2] == [*range(4, 16)]


def test_the_report_says_by_which_rule_and_of_what(worked: Path) -> None:
    report = json.loads((worked / "runs/own/replay/report.json").read_text())
    assert report["origin"]["data"]["label_rule"] == "centre"
    assert report["frames_scored"] == 26
    assert report["classes_absent"] == ["talk"]


def test_the_checkpoint_knows_what_made_its_features_and_refuses_others(worked: Path) -> None:
    made = coadtr.load(worked / "runs/own/checkpoint").spec.extractors["rgb"]
    assert made["backbone"] == "efficientnet_lite0"
    # The same backbone, width and rate, but other frames of the video.
    words = ("videos=clips", "out=data/other.h5", "sampling=rate", "max_seconds=4", "segments=segments.csv")
    succeed("extract", *words, "labels.outside=cut", folder=worked)
    refuse(
        *("replay", "checkpoint=runs/own/checkpoint", "data=data/other.h5", *QUICK),
        folder=worked,
        code=1,
        names=("the features of stream 'rgb' were made with sampling", "the model was trained on 'lstr"),
    )
