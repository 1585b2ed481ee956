"""A TVSeries source in the published layout, for the tests of its importer."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

# The published list, by frequency.
CLASSES = [
    *("background", "Pick something up", "Point", "Drink", "Stand up", "Run", "Sit down", "Read", "Smoke", "Drive car"),
    *("Open door", "Give something", "Use computer", "Write", "Go down stairway", "Close door", "Throw something"),
    *("Go up stairway", "Get in/out of car", "Hang up phone", "Eat", "Answer phone", "Dress up", "Clap", "Undress"),
    *("Kiss", "Fall/trip", "Wave", "Pour", "Punch", "Fire weapon"),
]
ALPHABETICAL = ["background", *sorted(CLASSES[1:])]
TRAIN = ("24_ep1", "Mad_Men_ep1", "Modern_Family_ep1", "Sons_of_Anarchy_ep2")
TEST = ("24_ep4", "Breaking_Bad_ep3")
SPLIT_FILES = {"GT-train.txt": TRAIN[:3], "GT-val.txt": TRAIN[3:], "GT-test.txt": TEST}
FRAMES = 40

# Video, class, start and end in seconds, at 5 frames a second, as the annotation spells them.
ACTIONS = (
    ("24_ep1", "Answer phone", 1.0, 3.0),
    ("24_ep1", "Stand up", 2.4, 2.95),
    ("Mad_Men_ep1", "Smoke", 0.0, 7.9),
    ("Modern_Family_ep1", "Fall/trip", 0.53, 1.1),
    ("Sons_of_Anarchy_ep2", "Fire weapon", 5.0, 5.5),
    ("24_ep4", "get_in_out_of_car", 1.0, 2.0),
    ("Breaking_Bad_ep3", "Write", 4.0, 6.0),
)


def action_row(video: str, label: str, start: float, end: float, comment: str = "") -> str:
    flags = "1\t0\t0\t1\t0\t0\t1\t0\t0\t0\t0\t0"
    return f"{video}\t{label}\t{start}\t{end}\t{flags}" + (f"\t{comment}" if comment else "")


def write_tvseries(
    folder: Path, *, text: bool = False, labels: dict[str, Any] | None = None, protocol: int = 4
) -> dict[str, Any]:
    """Write features, list, and annotation (text, or a pickle of ``labels``); return the features."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    features = {
        name: {
            "rgb": rng.standard_normal((FRAMES, 2048)).astype(np.float32),
            "flow": rng.standard_normal((FRAMES, 2048)).astype(np.float32),
        }
        for name in (*TRAIN, *TEST, "24_ep9")
    }
    lists = {"class_index": CLASSES, "train_session_set": TRAIN, "test_session_set": TEST}
    (folder / "data_info_new.json").write_text(json.dumps({"HDD": {}, "TVSERIES": lists, "THUMOS": {}}))
    (folder / "tvseries_anet_features.pickle").write_bytes(pickle.dumps(features, protocol=protocol))
    if labels is not None:
        (folder / "tvseries_anno.pickle").write_bytes(pickle.dumps(labels, protocol=protocol))
    if text:
        for file, videos in SPLIT_FILES.items():
            rows = [action_row(*action, comment="caf\xe9") for action in ACTIONS if action[0] in videos]
            (folder / file).write_text("\n".join(rows) + "\n", encoding="latin-1")
    return features


def multi_hot(order: list[str]) -> dict[str, Any]:
    """Return random multi-hot labels of all videos, with columns in an order of names."""
    rng = np.random.default_rng(8)
    labels = {}
    for name in (*TRAIN, *TEST):
        hot = rng.random((FRAMES, 31)) < 0.1
        background = order.index("background")
        hot[:, background] = False
        hot[:, background] = ~hot.any(axis=1)
        labels[name] = hot
    return labels
