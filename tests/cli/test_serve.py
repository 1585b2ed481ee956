"""``coadtr serve`` as a process: it starts with one line or fails with one, stops when told to, and survives a kill."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from websockets.exceptions import ConnectionClosed

from coadtr.checkpoint import CheckpointSpec, save_checkpoint
from coadtr.checkpoint import OnlineDetector as NativeDetector
from coadtr.cli.main import config_folder
from coadtr.cli.serve import server_settings
from coadtr.models import build_model
from coadtr.runtime import GapPolicy
from coadtr.serving import Answer, ServerSettings, StreamClient, StreamError, bind
from coadtr.serving.protocol import write_message, write_picture
from coadtr.video import Extraction, Sampling, Source, VideoReader, extract_video, load_backbone
from tests.cli.calling import ROOT, environment, refuse
from tests.models.sizes import small
from tests.serving.leaky import CHANNELS, frames_of, solo, write_onnx
from tests.serving.seeing import encode, picturing
from tests.serving.talking import raw, told
from tests.video.writing import write_video

# Runs the command where a package cannot be imported.
WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
from coadtr.cli.main import main
sys.argv = ["coadtr", *{words!r}]
main()
"""


@contextmanager
def serving(folder: Path, *words: str, without: Sequence[str] = ()) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command in a process of its own; yield the server's address and the process."""
    script = WITHOUT.format(names=list(without), words=["serve", *words])
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and words
        [sys.executable, "-c", script],
        cwd=folder,
        env={name: value for name, value in environment().items() if name != "PYTHONWARNINGS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"at (http://\S+) ", line)
        assert found, f"{line}{process.stderr.read() if process.poll() is not None else ''}"
        assert line.startswith(f"serving {words[0].partition('=')[2]} at ")
        yield found[1], process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """Write a small exported file."""
    return write_onnx(tmp_path / "leaky.onnx")


def require_solo(answers: Sequence[Answer], frames: np.ndarray) -> None:
    """Answers are those of the stream on its own, none twice and none left out."""
    assert [answer.frame for answer in answers] == list(range(len(frames)))
    np.testing.assert_allclose([answer.scores for answer in answers], solo(frames), atol=1e-6)


def test_the_settings_file_has_the_defaults_of_the_code(tmp_path: Path) -> None:
    settings = OmegaConf.to_container(OmegaConf.load(config_folder() / "serve.yaml"))
    assert isinstance(settings, dict)
    plain = {str(name): value for name, value in settings.items()}
    assert server_settings(plain) == ServerSettings()
    assert GapPolicy(**plain["gaps"]) == GapPolicy()


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = OmegaConf.to_container(OmegaConf.load(config_folder() / "serve.yaml"))
    assert isinstance(plain, dict)
    monkeypatch.setenv("COADTR_TOKEN", "of the environment")
    settings = {str(name): value for name, value in plain.items()}
    assert server_settings(settings).token == "of the environment"  # noqa: S105
    assert server_settings({**settings, "token": "given"}).token == "given"  # noqa: S105


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        ("", 2, ("checkpoint=... must be given",)),
        ("checkpoint=none.onnx port=0", 1, ("none.onnx: there is no such file",)),
        ("checkpoint=nothing port=0", 1, ("nothing: there is no such folder",)),
        ("checkpoint=damaged.onnx port=0", 1, ("damaged.onnx: cannot be loaded",)),
        ("checkpoint=leaky.onnx port=0 device=cuda", 2, ("device=cuda: an ONNX file runs on the CPU",)),
        ("checkpoint=leaky.onnx port=99999", 2, ("port must be from 0 to 65535, got 99999",)),
        ("checkpoint=leaky.onnx port=http", 2, ("port must be a whole number of at least 0, got 'http'",)),
        ("checkpoint=leaky.onnx host=no.such.host.invalid", 2, ("host=no.such.host.invalid is no address",)),
        ("checkpoint=leaky.onnx token=123", 2, ("token must be text (quote what reads as a number), got 123",)),
        ("checkpoint=leaky.onnx port=0 limits.streams=0", 2, ("limits.streams must be at least 1, got 0",)),
        (
            "checkpoint=leaky.onnx port=0 limits.message_bytes=20",
            2,
            ("limits.message_bytes=20 is less than one frame",),
        ),
        (
            "checkpoint=leaky.onnx port=0 limits.idle_seconds=soon",
            2,
            ("limits.idle_seconds must be a number, got 'soon'",),
        ),
        (
            "checkpoint=leaky.onnx port=0 events.start=2",
            2,
            ("events.start must be a number above 0, at most 1, got 2",),
        ),
        ("checkpoint=leaky.onnx port=0 +events.of=2", 2, ("no setting 'of'",)),
        ("checkpoint=leaky.onnx port=0 +events.per_class.jump.start=0.9", 2, ("the class 'jump'", "rest, lift, turn")),
        ("checkpoint=leaky.onnx port=0 gaps.missing=fill", 2, ("gaps.missing must be one of skip, hold, got 'fill'",)),
        ("checkpoint=leaky.onnx port=0 +gaps.most=2", 2, ("gaps.most is not a setting",)),
        ("checkpoint=leaky.onnx port=0 non_finite=drop", 2, ("non_finite must be one of reject, mask",)),
        ("checkpoint=leaky.onnx port=0 origins=[example.org]", 2, ("origins must be like https://example.org",)),
        ("checkpoint=leaky.onnx port=0 snapshots=leaky.onnx", 2, ("snapshots=leaky.onnx cannot be used",)),
        ("checkpoint=leaky.onnx port=0 pictures=1", 2, ("pictures must be true or false, got 1",)),
        (
            "checkpoint=leaky.onnx port=0 pictures=true device=cuda",
            2,
            ("the checkpoint does not say what made its features 'rgb' of pictures",),
        ),
        ("checkpoint=leaky.onnx prt=0", 2, ("prt is not a setting",)),
    ],
)
def test_what_cannot_be_served_ends_with_one_line(
    words: str, code: int, names: tuple[str, ...], onnx_file: Path
) -> None:
    (onnx_file.parent / "damaged.onnx").write_bytes(onnx_file.read_bytes()[:100])
    refuse("serve", *words.split(), folder=onnx_file.parent, code=code, names=names)


def test_a_port_in_use_is_told(onnx_file: Path) -> None:
    with bind(ServerSettings(port=0)) as listener:
        port = listener.getsockname()[1]
        refuse(
            *("serve", "checkpoint=leaky.onnx", f"port={port}"),
            folder=onnx_file.parent,
            code=2,
            names=(f"port={port} on 127.0.0.1 cannot be had (Address already in use)", "choose another"),
        )


@pytest.mark.parametrize(
    ("package", "words", "said"),
    [
        ("fastapi", (), 'a server needs fastapi: run `pip install "coadtr[serve]"`'),
        ("torch", ("pictures=true",), 'pictures=true needs torch: run `pip install "coadtr[video]"`'),
    ],
)
def test_a_missing_extra_is_told(package: str, words: Sequence[str], said: str, onnx_file: Path) -> None:
    script = WITHOUT.format(names=[package], words=["serve", "checkpoint=leaky.onnx", "port=0", *words])
    done = subprocess.run(  # noqa: S603 - our own interpreter and words
        [sys.executable, "-c", script],
        cwd=onnx_file.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"coadtr: error: {said}\n"


def test_an_exported_file_is_served_without_torch_until_sigterm(onnx_file: Path) -> None:
    frames = frames_of(30)
    kept = onnx_file.parent / "kept"
    words = ("checkpoint=leaky.onnx", "port=0", "snapshots=kept")
    with serving(onnx_file.parent, *words, without=["torch", "pandas", "h5py"]) as (url, process):
        with raw(url, "door") as connection:
            told(connection)
            connection.send(write_message(frames[:20]))
            first = told(connection)
            process.send_signal(signal.SIGTERM)
            answers = [first] + [told(connection) for _ in range(19)]
            with pytest.raises(ConnectionClosed) as caught:
                told(connection)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert sorted(path.suffix for path in kept.iterdir() if path.name != ".lock") == [".bin", ".npz"]
    with serving(onnx_file.parent, *words) as (url, process):
        with StreamClient(url, "door") as client:
            assert client.hello.frames == 20
            rest = client.push_many(frames[20:])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    require_solo([*map(Answer.read, answers), *rest], frames)


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_loses_nothing(onnx_file: Path) -> None:
    """Kill it without warning, four times, while clients push; each answer is as if nothing had happened."""
    inputs = {f"camera-{index}": frames_of(400, index) for index in range(6)}
    found: dict[str, list[Answer]] = {name: [] for name in inputs}
    with bind(ServerSettings(port=0)) as listener:
        port = listener.getsockname()[1]
    words = ("checkpoint=leaky.onnx", f"port={port}", "snapshots=kept", "snapshot_seconds=0.3")
    rng = np.random.default_rng(0)

    def push(name: str) -> None:
        frames, answers = inputs[name], found[name]
        with StreamClient(f"ws://127.0.0.1:{port}", name) as client:
            while len(answers) < len(frames):
                answers += client.push_many(frames[len(answers) : len(answers) + 5])

    threads = [threading.Thread(target=push, args=(name,)) for name in inputs]
    for thread in threads:
        thread.start()
    for round_ in range(5):
        with serving(onnx_file.parent, *words) as (_, process):
            if round_ == 4:
                for thread in threads:
                    thread.join()
                break
            wanted = sum(map(len, found.values())) + int(rng.integers(100, 400))
            while sum(map(len, found.values())) < wanted:
                threading.Event().wait(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
    for name, frames in inputs.items():
        require_solo(found[name], frames)


def test_a_checkpoint_folder_is_served(trained: Path, tmp_path: Path) -> None:
    path = trained / "run/checkpoint"
    frames = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    with serving(tmp_path, f"checkpoint={path}", "port=0") as (url, _), StreamClient(url, "door") as client:
        assert client.hello.streams == {"imu": 6, "gyro": 2}
        scores = [answer.scores for answer in client.push_many(frames)]
    np.testing.assert_allclose(scores, NativeDetector.load(path).push_many(frames), atol=2e-6)


@pytest.mark.slow
def test_pictures_are_answered_as_the_features_that_extraction_makes_of_them(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", frames=60, size=(96, 128))
    torch.manual_seed(1)
    model = build_model(small("cooadtr_b1", input_dim=1280)).eval()
    spec = CheckpointSpec(
        model=model.config,
        class_names=("rest", "lift", "unclear"),
        background=0,
        ignored=2,
        streams={"rgb": 1280},
        rate_hz=4.0,
        extractors={"rgb": load_backbone().describe(Sampling())},
    )
    path = save_checkpoint(tmp_path / "checkpoint", model, spec, {})
    features = extract_video(Source("film", str(tmp_path / "film.mp4")), Extraction(dtype="float32")).features["rgb"]
    with VideoReader(tmp_path / "film.mp4") as film:
        pictures = [write_picture(frame.time, encode(frame.rgb, "PNG")) for frame in film]
    answers: list[Answer] = []
    with (
        serving(tmp_path, "checkpoint=checkpoint", "port=0", "pictures=true") as (url, _),
        picturing(url, "door") as film,
    ):
        assert told(film)["pictures"] == {"per_second": 8.0, "width": 640}
        for picture in pictures:
            film.send(picture)
        film.send('{"end": true}')
        while "end" not in (message := told(film)):
            answers += [Answer.read(message)] if "scores" in message else []
    assert [answer.time for answer in answers] == [index / 4 for index in range(len(features))]
    native = NativeDetector.load(path).push_many(features)
    np.testing.assert_allclose([answer.scores for answer in answers], native, atol=1e-4)


def test_settings_reach_the_server(onnx_file: Path) -> None:
    words = ("checkpoint=leaky.onnx", "port=0", "token=s3cret", "limits.waiting=3", "non_finite=mask")
    with serving(onnx_file.parent, *words, "+events.per_class.lift.start=0.5") as (url, _):
        with pytest.raises(StreamError, match="401"):
            StreamClient(url, "door")
        with StreamClient(url, "door", "s3cret") as client:
            assert client.hello.waiting == 3
            assert np.isfinite(client.push(np.full(CHANNELS, np.nan)).scores).all()


def test_the_script_is_the_command(onnx_file: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter and file
        [sys.executable, str(ROOT / "scripts/serve.py"), "--cfg", "job"],
        cwd=onnx_file.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert OmegaConf.create(done.stdout).limits.streams == 256
    assert [path.name for path in onnx_file.parent.iterdir()] == ["leaky.onnx"]
