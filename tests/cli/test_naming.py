"""Settings by their full names in messages that do not know their groups."""

from __future__ import annotations

import pytest

from coadtr.cli.naming import full_names, in_full, named_in_full
from coadtr.errors import ConfigError, DataError

NAMES = {
    name: f"model.{name}" for name in ("window", "work_frames", "long_stride", "num_heads", "embed_dim", "dropout")
}


def test_names_of_two_groups_are_left_out() -> None:
    groups = {"model": {"kind": "lstr", "window": 4}, "trainer": {"seed": 0, "loss": {"kind": "focal", "gamma": 2.0}}}
    names = full_names(groups)
    assert names["gamma"] == "trainer.loss.gamma"
    assert names["loss"] == "trainer.loss"
    assert set(names) == {"window", "seed", "loss", "gamma"}
    assert full_names({"sampling": ("preset", "chunk")}) == {"preset": "sampling.preset", "chunk": "sampling.chunk"}
    assert full_names({}) == {}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("window must be at least 1", "model.window must be at least 1"),
        ("dropout must not be negative", "model.dropout must not be negative"),
        ("window is 0; give more", "model.window is 0; give more"),
        ("too wide: window=4, dropout='x'", "too wide: model.window=4, model.dropout='x'"),
        ("embed_dim must be a multiple of num_heads", "model.embed_dim must be a multiple of model.num_heads"),
        (
            "the memory, window - work_frames, must be a multiple of long_stride",
            "the memory, model.window - model.work_frames, must be a multiple of model.long_stride",
        ),
        # Words, other names, paths, quoted values, and what has its group already.
        ("a clip holds at most the window's 4 frames", "a clip holds at most the window's 4 frames"),
        ("no frame: the window is empty", "no frame: the window is empty"),
        ("it has window, dropout", "it has window, dropout"),
        ("input_dropout must be below 1", "input_dropout must be below 1"),
        ("my_window=3, windows=3", "my_window=3, windows=3"),
        ("say model.window=3", "say model.window=3"),
        ("runs/window=3,dropout=1 holds a run", "runs/window=3,dropout=1 holds a run"),
        ("class 'window=3' is unknown", "class 'window=3' is unknown"),
    ],
)
def test_settings_are_told_from_words(said: str, shown: str) -> None:
    assert in_full(said, NAMES) == shown
    assert in_full(said, {}) == said


def test_errors_of_settings_alone_are_changed() -> None:
    with pytest.raises(ConfigError, match=r"^model\.window must be at least 1$"), named_in_full({"model": ["window"]}):
        raise ConfigError("window must be at least 1")
    with pytest.raises(DataError, match=r"^window=3$"), named_in_full({"model": ["window"]}):
        raise DataError("window=3")
