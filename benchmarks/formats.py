"""Time a checkpoint's step in every format and precision beside each other, in one run, and say what each costs in mAP.

native      this project's step: eager, and compiled ahead of time (``StepRunner``), in float32, bfloat16 and int8
pt2         the ``torch.export`` program
onnx        ONNX Runtime on the exported file: float32, float16, int8
openvino    OpenVINO on the same float32 file, if it is installed (``pip install openvino``)
co          continual-inference's own ONNX export of its encoder of the same sizes, if it exports here

Contenders take turns, a few steps each, so that a drift of the machine's speed meets them all alike; every one steps
its own state from frame to frame, in one thread. With a store, the test split is answered by each, frame by frame:
the mAP, and the largest difference of a score from the native float32 detector's.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from coadtr.checkpoint import Checkpoint, load
from coadtr.data import FeatureStore
from coadtr.evaluation import describe_machine, mean_average_precision, per_frame_average_precision
from coadtr.export import StepGraph, export_onnx, export_program
from coadtr.layers import StepRunner, in_precision, state_from_tensors, state_tensors
from coadtr.runtime import OnnxStepper
from coadtr.scoring import probabilities

State = list[Any]
Run = Callable[[NDArray[np.float32], State], tuple[NDArray[np.float32], State]]


class Contender(NamedTuple):
    """What steps, and the state of so many fresh streams in its own form."""

    step: Run
    fresh: Callable[[int], State]
    size: int | None = None


def native(checkpoint: Checkpoint, precision: Any, backend: Any = None) -> Contender:
    """Return this project's step."""
    model = checkpoint.model if precision == "float32" else in_precision(checkpoint.model, precision)
    stepping: Any = model if backend is None else StepRunner(model, backend=backend)
    like = model.init_state(1)

    @torch.inference_mode()
    def step(frame: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], State]:
        given = torch.from_numpy(frame).to(model.input_dtype)
        logits, after = stepping.step(given, state_from_tensors(state, like))
        return logits.float().numpy(), list(state_tensors(after))

    return Contender(step, lambda streams: list(state_tensors(model.init_state(streams))))


def program(checkpoint: Checkpoint, path: Path, precision: str) -> Contender:
    """Return the step of the exported program."""
    export_program(checkpoint, path, precision=precision)
    module = torch.export.load(path).module()
    dtypes = [leaf.dtype for leaf in StepGraph(in_precision(checkpoint.model, precision)).fresh(1)]  # type: ignore[arg-type]
    graph = StepGraph(checkpoint.model)

    @torch.inference_mode()
    def step(frame: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], State]:
        logits, *after = module(torch.from_numpy(frame), *state)
        return logits.numpy(), after

    def fresh(streams: int) -> State:
        return [leaf.to(dtype) for leaf, dtype in zip(graph.fresh(streams), dtypes, strict=True)]

    return Contender(step, fresh, path.stat().st_size)


def onnx(checkpoint: Checkpoint, path: Path, precision: str) -> Contender:
    """Return the step by ONNX Runtime."""
    export_onnx(checkpoint, path, precision=precision)
    stepper = OnnxStepper(path)
    leaves = [leaf.fresh for leaf in stepper.description.state]
    return Contender(stepper.step, lambda streams: [np.repeat(leaf[None], streams, 0) for leaf in leaves], size(path))


def size(path: Path) -> int:
    """Return the bytes of a file."""
    return path.stat().st_size


def openvino(path: Path, like: Contender) -> Contender:
    """Return the step by OpenVINO, which answers in bfloat16 unless it is told not to."""
    import openvino as ov  # noqa: PLC0415 - an optional peer

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()

    def step(frame: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], State]:
        found = request.infer([frame, *state])
        logits, *after = (found[index].copy() for index in range(len(state) + 1))
        return logits, after

    return Contender(step, like.fresh, size(path))


def contenders(checkpoint: Checkpoint, folder: Path) -> dict[str, Contender]:
    """Make all that run here."""
    makers: dict[str, Callable[[], Contender]] = {"native float32": lambda: native(checkpoint, "float32")}
    for precision in ("float32", "bfloat16", "int8"):
        makers[f"native {precision} compiled"] = lambda name=precision: native(checkpoint, name, "compiled")  # type: ignore[misc]
    for precision in ("float32", "bfloat16"):
        makers[f"pt2 {precision}"] = lambda name=precision: program(checkpoint, folder / f"{name}.pt2", name)  # type: ignore[misc]
    for precision in ("float32", "float16", "int8"):
        makers[f"onnx {precision}"] = lambda name=precision: onnx(checkpoint, folder / f"{name}.onnx", name)  # type: ignore[misc]
    if importlib.util.find_spec("openvino") is not None:
        makers["openvino float32"] = lambda: openvino(folder / "float32.onnx", found["onnx float32"])
    found: dict[str, Contender] = {}
    for name, make in makers.items():
        try:
            contender = make()
            contender.step(np.zeros((1, checkpoint.model.input_dim), np.float32), contender.fresh(1))
        except Exception as error:  # noqa: BLE001 - a contender that does not run here is named, and the others go on
            print(f"{name} does not run here: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        else:
            found[name] = contender
    return found


def race(found: dict[str, Contender], width: int, streams: int, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds a step of each round, contenders in turns of 20 steps."""
    frames = np.random.default_rng(0).normal(size=(20, streams, width)).astype(np.float32)
    states = {name: contender.fresh(streams) for name, contender in found.items()}
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds + 3):
        for name, contender in found.items():
            state, start = states[name], time.perf_counter()
            for frame in frames:
                _, state = contender.step(frame, state)
            spent, states[name] = (time.perf_counter() - start) / len(frames), state
            if turn >= 3:  # the first ones warm up
                times[name].append(1e3 * spent)
    return times


def answer(contender: Contender, store: FeatureStore) -> tuple[NDArray[Any], NDArray[Any]]:
    """Answer the test split frame by frame: logits and labels of all videos."""
    logits, labels = [], []
    for record in store.videos("test"):
        state = contender.fresh(1)
        for frame in store.features(record.name).astype(np.float32):
            found, state = contender.step(frame[None], state)
            logits.append(found[0].copy())
        labels.append(store.labels(record.name))
    return np.stack(logits).astype(np.float64), np.concatenate(labels)


def score(logits: NDArray[Any], labels: NDArray[Any], checkpoint: Checkpoint) -> tuple[NDArray[Any], float]:
    """Return scores and mAP."""
    spec = checkpoint.spec
    scores = probabilities(logits, spec.ignored, head=spec.head)
    counted = labels != spec.ignored if spec.ignored is not None else np.ones(len(labels), bool)
    precisions = per_frame_average_precision(
        labels[counted], scores[counted], class_names=spec.class_names, background=spec.background
    )
    return scores, mean_average_precision(precisions)


def try_continual_inference() -> str:
    """Say whether continual-inference exports its own encoder to ONNX with the torch that is here."""
    try:
        import continual as co  # noqa: PLC0415 - an optional peer

        encoder = co.TransformerEncoder(
            co.TransformerEncoderLayerFactory(64, 4, 64, sequence_len=64),
            num_layers=1,
        )
        encoder.eval()
        for _ in range(64):
            encoder.forward_step(torch.zeros(1, 64))
        with tempfile.TemporaryDirectory() as folder:
            co.onnx.export(encoder, torch.zeros(1, 64), f"{folder}/co.onnx", input_names=["x"], output_names=["y"])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return f"continual-inference's own ONNX export fails here: {type(error).__name__}: {str(error).splitlines()[0]}"
    return "continual-inference's own ONNX export works here"


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, race, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint")
    parser.add_argument("store", type=Path, nargs="?", help="feature store whose test split is answered")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    wanted = parser.parse_args(arguments)
    torch.set_num_threads(1)
    checkpoint = load(wanted.checkpoint)
    print(describe_machine())
    print(try_continual_inference())
    with tempfile.TemporaryDirectory() as folder:
        found = contenders(checkpoint, Path(folder))
        for streams in wanted.streams:
            times = race(found, checkpoint.model.input_dim, streams, wanted.rounds)
            first = statistics.median(times["native float32"])
            print(f"\n{streams} stream(s): ms a step (10th to 90th percentile), times as fast as native float32 eager")
            for name, spent in times.items():
                low, middle, high = np.percentile(spent, (10, 50, 90))
                print(f"{name:26} {middle:8.3f} ({low:.3f}-{high:.3f})  {first / middle:6.2f}")
        print()
        reference = None
        for name, contender in found.items():
            line = f"{name:26} " + ("" if contender.size is None else f"{contender.size / 1e6:8.2f} MB")
            if wanted.store is not None:
                with FeatureStore(wanted.store) as store:
                    scores, mean = score(*answer(contender, store), checkpoint)
                reference = scores if reference is None else reference
                worst = np.abs(scores - reference).max()
                line += f"  mAP {100 * mean:.2f} %  largest difference of a score {worst:.2g} over {len(scores)} frames"
            print(line)


if __name__ == "__main__":
    main()
