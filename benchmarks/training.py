"""Train CoOadTR-b1 on whole sequences and on clips, in one run: time of an epoch, and what comes out.

sequences   spans of whole videos in one pass, a loss on every frame (``trainer=sequences``)
grouped     the same in batches of spans of like length (``trainer.group_by_length=true``)
clips       every window of N frames, a loss on its last frame, as published (``trainer=published``'s sampling)

An epoch of either carries a loss on every frame of the training videos (clips: on those from frame N - 1 on). The time
of an epoch is that of its training batches, without validation. The models are replayed on the validation videos;
their mAPs are compared by a paired bootstrap over these. Clips have their own batch size, learning rate and epochs;
other settings are shared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback

from coadtr.checkpoint import load
from coadtr.data import FeatureStore
from coadtr.evaluation import ReplayVideo, describe_machine, probabilities, replay
from coadtr.evaluation.metrics import difference_over_seeds, mean_over_seeds
from coadtr.training import TrainingSettings, train


@dataclass
class Scored:
    """What the comparison reads of a video."""

    name: str
    scores: NDArray[Any]
    labels: NDArray[Any]
    scored: NDArray[np.bool_]


class Clock(Callback):
    """Time the training batches of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._begun = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self._begun)


def run(
    store: FeatureStore, out: Path, wanted: argparse.Namespace, **settings: Any
) -> tuple[list[float], list[Scored]]:
    """Train one way; return the seconds of its epochs, and the scored validation videos."""
    clock = Clock()
    sizes = {"embed_dim": wanted.width, "ff_dim": wanted.width, "num_heads": 4}
    model = {"kind": "cooadtr", "dropout": 0.2, "input_dropout": wanted.input_dropout, **sizes}
    common: dict[str, Any] = {"schedule": "cosine", "accelerator": "cpu"}
    result = train(
        store, model, TrainingSettings(**common, **settings), out, progress=False, say=print, callbacks=[clock]
    )
    detector = load(result.checkpoint).model
    videos = [
        ReplayVideo(record.name, lambda name=record.name: store.features(name), store.labels(record.name))  # type: ignore[misc]
        for record in store.videos("validation")
    ]
    scored = []
    for answers in replay(detector, videos, chunk=512):
        counted = np.ones(len(answers.labels), bool)
        if store.ignored is not None:
            counted &= answers.labels != store.ignored
        scored.append(Scored(answers.name, probabilities(answers.logits, store.ignored), answers.labels, counted))
    return clock.seconds, scored


def ways_of(wanted: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the settings of each way of training."""
    sequences = {
        "sampling": "sequences",
        "learning_rate": wanted.rate,
        "max_epochs": wanted.epochs,
        "batch_size": wanted.spans,
        "sequence_length": wanted.span_frames,
    }
    clips = {
        "sampling": "windows",
        "learning_rate": wanted.clip_rate,
        "max_epochs": wanted.clip_epochs,
        "batch_size": 128,
    }
    return {"sequences": sequences, "grouped": {**sequences, "group_by_length": True}, "clips": clips}


def main() -> None:
    """Train all ways and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="feature store")
    parser.add_argument("--epochs", type=int, default=20, help="of sequences")
    parser.add_argument("--clip-epochs", type=int, default=4, help="of clips")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of sequences")
    parser.add_argument("--clip-rate", type=float, default=1e-3, help="learning rate of clips")
    parser.add_argument("--spans", type=int, default=4, help="spans in a batch of sequences")
    parser.add_argument("--span-frames", type=int, default=512, help="frames with loss in a span")
    parser.add_argument("--width", type=int, default=64, help="embedding width")
    parser.add_argument("--input-dropout", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    times: dict[str, list[float]] = {}
    scored: dict[str, list[list[Scored]]] = {}
    with FeatureStore(wanted.store) as store, tempfile.TemporaryDirectory() as folder:
        for seed in range(wanted.seeds):
            for name, settings in ways_of(wanted).items():
                seconds, videos = run(store, Path(folder) / f"{name}-{seed}", wanted, seed=seed, **settings)
                times.setdefault(name, []).extend(seconds)
                scored.setdefault(name, []).append(videos)
        classes: dict[str, Any] = {
            "class_names": store.class_names,
            "background": store.background,
            "ignored": store.ignored,
        }
    print(describe_machine())
    for name, seconds in times.items():
        mean = mean_over_seeds(scored[name], **classes)
        low, high = mean.interval or (float("nan"), float("nan"))
        spread = f"({min(seconds):.2f}-{max(seconds):.2f}, {len(seconds)} epochs)"
        score = f"validation mAP {100 * mean.value:.2f} % ({100 * low:.2f}-{100 * high:.2f})"
        print(f"{name:10} epoch {statistics.median(seconds):8.2f} s {spread}   {score}")
    for name in ("sequences", "grouped"):
        ratio = statistics.median(times["clips"]) / statistics.median(times[name])
        print(f"an epoch of clips takes {ratio:.1f} times that of {name}")
    for first, second in (("sequences", "clips"), ("grouped", "clips"), ("grouped", "sequences")):
        difference = difference_over_seeds(scored[first], scored[second], **classes)
        low, high = difference.interval or (float("nan"), float("nan"))
        print(f"{first} - {second}: {100 * difference.value:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})")


if __name__ == "__main__":
    main()
