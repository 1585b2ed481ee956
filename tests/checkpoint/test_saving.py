"""A checkpoint is written whole or not at all, and never in the place of something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from coadtr.checkpoint import load, save_checkpoint
from coadtr.checkpoint.folder import new_folder
from coadtr.errors import CheckpointError
from tests.checkpoint.conftest import MakeModel, MakeSpec


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, hidden files too."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_missing_parents_are_made(tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model()
    path = save_checkpoint(tmp_path / "runs" / "1" / "checkpoint", model, make_spec(model), {})
    assert load(path).path == path
    assert [entry.name for entry in path.parent.iterdir()] == ["checkpoint"]


def test_existing_folder_is_refused_and_kept(saved: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    before, model = tree(saved.parent), make_model()
    with pytest.raises(CheckpointError, match="is there already; name another folder, or say overwrite=true"):
        save_checkpoint(saved, model, make_spec(model), {})
    assert tree(saved.parent) == before


def test_overwrite_swaps_the_checkpoint(saved: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model("cooadtr_b2")
    save_checkpoint(saved, model, make_spec(model), {"data": "new"}, overwrite=True)
    assert (load(saved).origin["data"], load(saved).model.config) == ("new", model.config)
    assert [entry.name for entry in saved.parent.iterdir()] == ["checkpoint"]


def test_overwrite_follows_a_link(saved: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model, link = make_model(), saved.with_name("latest")
    link.symlink_to(saved, target_is_directory=True)
    save_checkpoint(link, model, make_spec(model), {"data": "new"}, overwrite=True)
    assert link.is_symlink()
    assert load(saved).origin["data"] == "new"
    assert sorted(entry.name for entry in saved.parent.iterdir()) == ["checkpoint", "latest"]


def test_overwrite_spares_a_folder_of_other_things(saved: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    (saved / "thesis.tex").write_text("years of work")
    before, model = tree(saved.parent), make_model()
    with pytest.raises(CheckpointError, match=r"holds thesis\.tex, which is no part of a checkpoint"):
        save_checkpoint(saved, model, make_spec(model), {}, overwrite=True)
    assert tree(saved.parent) == before


def test_a_file_in_the_way_is_refused(tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    (tmp_path / "file").write_text("kept")
    model = make_model()
    with pytest.raises(CheckpointError, match="is a file; name a folder"):
        save_checkpoint(tmp_path / "file", model, make_spec(model), {}, overwrite=True)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "checkpoint", model, make_spec(model), {})
    assert tree(tmp_path) == {"file": b"kept"}


def break_writing(patch: pytest.MonkeyPatch, step: str, problem: BaseException) -> None:
    """Let the last file of a checkpoint, or the rename that puts the new folder in place, fail."""
    real: Callable[..., Any] = getattr(Path, step)

    def fail(self: Path, *arguments: Any) -> Any:
        if self.name == "origin.json" or (step == "rename" and self.suffix == ".part"):
            raise problem
        return real(self, *arguments)

    patch.setattr(Path, step, fail)


@pytest.mark.parametrize("target", ["checkpoint", "new/deep/checkpoint"])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["write_bytes", "rename"])
def test_failed_save_leaves_nothing(step: str, problem: BaseException, target: str, saved: Path) -> None:
    """Whether the target is a checkpoint already (it stays) or not (nor are its parents left)."""
    checkpoint, before = load(saved), tree(saved.parent)
    expected = KeyboardInterrupt if isinstance(problem, KeyboardInterrupt) else CheckpointError
    with pytest.MonkeyPatch.context() as patch:
        break_writing(patch, step, problem)
        with pytest.raises(expected):
            save_checkpoint(saved.parent / target, checkpoint.model, checkpoint.spec, {}, overwrite=True)
    assert tree(saved.parent) == before


def test_parents_made_for_a_failed_save_stay_if_another_used_them(tmp_path: Path) -> None:
    def use_and_fail() -> None:
        with new_folder(tmp_path / "runs" / "deep" / "checkpoint", overwrite=False, own=[]):
            (tmp_path / "runs" / "note").touch()
            raise KeyError("stop")

    with pytest.raises(KeyError):
        use_and_fail()
    assert tree(tmp_path) == {"runs": None, "runs/note": b""}


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"metric": float("nan")}, "origin holds what JSON cannot"),
        ({"path": Path("x")}, "origin holds what JSON cannot"),
        ({"name": "\ud800"}, "origin holds what JSON cannot"),
    ],
)
def test_origin_that_is_not_json_is_refused(
    origin: dict[str, object], message: str, tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    model = make_model()
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / "runs" / "checkpoint", model, make_spec(model), origin)
    assert tree(tmp_path) == {}


def test_description_of_another_model_is_refused(tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    with pytest.raises(CheckpointError, match="another model than the one to save: depth 2, not 1"):
        save_checkpoint(tmp_path / "c", make_model(), make_spec(make_model("cooadtr_b2")), {})
    assert tree(tmp_path) == {}


def test_weights_that_cannot_be_loaded_again_are_not_saved(
    tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    broken = make_model()
    broken.head.bias.data.fill_(torch.inf)  # type: ignore[union-attr, operator]
    with pytest.raises(CheckpointError, match=r"head\.bias holds values that are not finite"):
        save_checkpoint(tmp_path / "c", broken, make_spec(broken), {})
    mixed = make_model()
    mixed.head.double()
    with pytest.raises(CheckpointError, match=r"head\.weight is torch\.float64, the model wants torch\.float32"):
        save_checkpoint(tmp_path / "c", mixed, make_spec(mixed), {})
    grown = make_model()
    grown.register_buffer("extra", torch.zeros(1))
    with pytest.raises(CheckpointError, match="no place for extra"):
        save_checkpoint(tmp_path / "c", grown, make_spec(grown), {})
    assert tree(tmp_path) == {}
