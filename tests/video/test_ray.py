"""Extraction over a Ray cluster: the same bytes as in one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coadtr.errors import MissingExtraError
from coadtr.video.ray_pool import on_ray
from tests.cli.calling import refuse, spawn, succeed

SMALL = ("backbone=mobilenet_v3_small", "weights=random", "batch_size=4", "videos=clips")


@pytest.mark.slow
def test_two_workers_of_a_local_cluster_give_the_same_bytes(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    assert clips.parent == tmp_path
    (clips / "broken.mp4").write_bytes(b"not a video")
    # In a process of its own: Ray leaves threads and handlers behind.
    words = ("extract", *SMALL, "out=ray.h5", "runner=ray", "workers=2")
    outcome = spawn("-W", "ignore", "-m", "coadtr.cli.main", *words, folder=tmp_path)
    assert outcome.code == 0, outcome.err
    assert "skipped: video 'broken': " in outcome.out
    succeed("extract", *SMALL, "out=alone.h5", folder=tmp_path)
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()


def test_a_runner_that_is_unknown_is_refused(clips: Path, tmp_path: Path) -> None:
    assert clips.parent == tmp_path
    refuse("extract", *SMALL, "out=a.h5", "runner=slurm", folder=tmp_path, code=2, names=("runner", "slurm", "ray"))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "coadtr\[ray\]"'):
        on_ray()
