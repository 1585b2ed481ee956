"""Time one step of the Keras CoOadTR, compiled and eager, beside re-running its clip, on one backend.

    KERAS_BACKEND=tensorflow python benchmarks/keras_step.py
    KERAS_BACKEND=jax python benchmarks/keras_step.py

Contenders take turns, so that a drift of the machine's speed meets them all alike. Printed are the median over rounds
and the 10th and 90th percentile, in milliseconds for one frame of one stream. What is compared, for one block and two:

step, compiled      ``stateless_step`` by ``compile_step``: tf.function, jax.jit or torch.compile
step, XLA           the same with ``jit_compile=True``, on TensorFlow (JAX has nothing else)
step, eager         ``call_step``
clip, compiled      the model on the window of N frames, compiled
clip, eager         the same, eager
PyTorch step        the peer: `coadtr.models` with as large weights, eager, if PyTorch is there
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from coadtr.keras import CoOadTR, compile_step, state_dict


def compile_clip(model: CoOadTR) -> Callable[[Any], Any]:
    """Compile the clip model, the weights given at each call as `compile_step` does."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        compiled: Callable[[Any], Any] = tf.function(lambda clip: model(clip, training=False))
        return compiled
    if backend == "jax":
        import jax  # noqa: PLC0415

        variables = model.variables

        def call(values: list[Any], clip: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return model(clip, training=False)

        program = jax.jit(call)
        return lambda clip: program([variable.value for variable in variables], clip)
    import torch  # noqa: PLC0415

    run: Callable[[Any], Any] = torch.compile(torch.no_grad()(lambda clip: model(clip, training=False)))
    return run


def contenders(model: CoOadTR, frame: Any, clip: Any) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name; each runs until its answer is there."""
    whole = compile_clip(model)

    def stepping(**options: Any) -> Callable[[], Any]:
        step, held = compile_step(model, **options), {"state": model.init_state(1)}

        def run() -> None:
            answer, held["state"] = step(frame, held["state"])
            keras.ops.convert_to_numpy(answer)

        return run

    return {
        "step, compiled": stepping(),
        **({"step, XLA": stepping(jit_compile=True)} if keras.config.backend() == "tensorflow" else {}),
        "step, eager": lambda: keras.ops.convert_to_numpy(model.call_step(frame)),
        "clip, compiled": lambda: keras.ops.convert_to_numpy(whole(clip)),
        "clip, eager": lambda: keras.ops.convert_to_numpy(model(clip, training=False)),
        **peer(model),
    }


def peer(model: CoOadTR) -> dict[str, Callable[[], Any]]:
    """Return the step of this project's PyTorch model with the same weights, if PyTorch is there."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch  # noqa: PLC0415

    from coadtr.models import build_model, preset  # noqa: PLC0415

    settings = model.get_config()
    sizes = {name: settings[name] for name in ("input_dim", "num_classes", "embed_dim", "num_heads", "ff_dim", "depth")}
    theirs = build_model(preset("cooadtr_b1", window=model.seq_len, **sizes)).eval()
    theirs.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state_dict(model).items()})
    held, frame = {"state": theirs.init_state(1)}, torch.randn(1, model.input_dim)

    @torch.inference_mode()
    def run() -> None:
        answer, held["state"] = theirs.step(frame, held["state"])
        answer.numpy()

    return {"PyTorch step": run}


def measure(runs: dict[str, Callable[[], Any]], rounds: int, each: int) -> dict[str, list[float]]:
    """Time each contender ``each`` times in every round, in turns: milliseconds by name."""
    for run in runs.values():
        for _ in range(3):
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(each):
                run()
            times[name].append((time.perf_counter() - start) / each * 1e3)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=4096)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--classes", type=int, default=22)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--each", type=int, default=5)
    given = parser.parse_args()
    backend = keras.config.backend()
    package = {"tensorflow": "tensorflow-cpu"}.get(backend, backend)
    print(f"{platform.processor() or platform.machine()}, Keras {keras.__version__}, {backend} "
          f"{importlib.metadata.version(package)}; milliseconds, median (10 % to 90 %)")  # fmt: skip
    rng = np.random.default_rng(0)
    for depth in (1, 2):
        model = CoOadTR(
            input_dim=given.channels, num_classes=given.classes, seq_len=given.window, embed_dim=given.width,
            num_heads=given.heads, ff_dim=given.width, depth=depth,
        )  # fmt: skip
        frame = keras.ops.convert_to_tensor(rng.normal(size=(1, given.channels)).astype(np.float32))
        clip = keras.ops.convert_to_tensor(rng.normal(size=(1, given.window, given.channels)).astype(np.float32))
        for name, times in measure(contenders(model, frame, clip), given.rounds, given.each).items():
            low, high = np.percentile(times, [10, 90])
            print(f"b{depth}  {name:16}{statistics.median(times):9.2f}  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
