"""Time the evaluation of a whole data set, beside the clip-by-clip evaluation of the same model, in one run.

replay      every frame of every video of the split, in chunks, by the code of ``coadtr replay latency=null``
steps       the same frame by frame, several videos side by side (``--steps``)
clips       the published way: for each frame the window of N frames that ends there, ``--clips-at-once`` windows a
            batch. It takes hours at full size, so it is timed on frames drawn from all videos, and its time for all
            frames is that share scaled up (``--sample``; ``--sample 0`` runs all of them)

The model has random weights: neither time nor agreement depends on them. The scores of both ways are compared on every
sampled frame. Both ways read the same store; reading is part of the time. Peak memory is the largest resident set of
this process after the replay; that of the first round is before any clip.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coadtr.data import FeatureStore
from coadtr.evaluation import ReplayVideo, describe_machine, group_videos, peak_memory_bytes, probabilities, replay
from coadtr.models import OnlineModel, build_model, preset


def videos(store: FeatureStore, names: list[str]) -> Iterator[ReplayVideo]:
    """Yield the videos, each read when its turn comes."""
    for name in names:
        yield ReplayVideo(name, lambda name=name: store.features(name), store.labels(name))  # type: ignore[misc]


def run_replay(
    model: OnlineModel, store: FeatureStore, split: str, *, batch_size: int, chunk: int
) -> tuple[float, dict[str, NDArray[Any]]]:
    """Replay the split; return the seconds and the scores by video."""
    records, start = store.videos(split), time.perf_counter()
    scores = {}
    for group in group_videos([record.frames for record in records], batch_size):
        names = [records[index].name for index in group]
        for answers in replay(model, videos(store, names), batch_size=len(names), chunk=chunk):
            scores[answers.name] = probabilities(answers.logits)
    return time.perf_counter() - start, scores


def run_clips(
    model: OnlineModel, store: FeatureStore, chosen: dict[str, NDArray[np.int64]], at_once: int
) -> tuple[float, dict[str, NDArray[Any]]]:
    """Answer the chosen frames of each video, each from its window; return the seconds and the scores."""
    start, scores = time.perf_counter(), {}
    window = model.window
    for name, frames in chosen.items():
        features = np.asarray(store.features(name), dtype=np.float32)
        answers = []
        for first in range(0, len(frames), at_once):
            ends = frames[first : first + at_once]
            clips = torch.from_numpy(np.stack([features[end - window + 1 : end + 1] for end in ends]))
            with torch.inference_mode():
                answers.append(model.answer_clip(clips, torch.from_numpy(ends - window + 1)).numpy())
        scores[name] = probabilities(np.concatenate(answers))
    return time.perf_counter() - start, scores


def choose(store: FeatureStore, split: str, window: int, sample: int) -> dict[str, NDArray[np.int64]]:
    """Draw frames with a full window from all videos, in proportion to their length."""
    random, records = np.random.default_rng(0), store.videos(split)
    full = {record.name: np.arange(window - 1, record.frames) for record in records if record.frames >= window}
    total = sum(len(frames) for frames in full.values())
    if not sample:
        return full
    shares = {name: max(1, round(sample * len(frames) / total)) for name, frames in full.items()}
    return {name: np.sort(random.choice(frames, shares[name], replace=False)) for name, frames in full.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="feature store, as of `coadtr data synthesize like=thumos14`")
    parser.add_argument("--model", default="cooadtr_b1", help="preset")
    parser.add_argument("--split", default="test")
    parser.add_argument("--batch-size", type=int, default=1, help="videos side by side")
    parser.add_argument("--chunk", type=int, default=512, help="frames at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help="time the frame-by-frame replay too")
    parser.add_argument("--sample", type=int, default=2000, help="frames answered clip by clip")
    parser.add_argument("--clips-at-once", type=int, default=64)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with FeatureStore.open(arguments.data) as store:
        config = preset(arguments.model, input_dim=sum(store.streams.values()), num_classes=len(store.class_names))
        model = build_model(config).eval()
        frames = sum(record.frames for record in store.videos(arguments.split))
        machine = describe_machine()
        print(f"{arguments.model}, {config.input_dim} channels, {frames:,} frames; {machine['cpu']}, ", end="")
        print(f"{machine['cores_usable']} cores, {machine['threads']} threads")
        chosen = choose(store, arguments.split, model.window, arguments.sample)
        sampled = sum(len(found) for found in chosen.values())
        seconds: dict[str, list[float]] = {"replay": [], "steps": [], "clips": []}
        scores: dict[str, NDArray[Any]] = {}
        clipped: dict[str, NDArray[Any]] = {}
        for _ in range(arguments.rounds):
            took, scores = run_replay(
                model, store, arguments.split, batch_size=arguments.batch_size, chunk=arguments.chunk
            )
            seconds["replay"].append(took)
            print(f"replay {took:.1f} s, peak memory {(peak_memory_bytes() or 0) / 2**20:.0f} MiB", flush=True)
            if arguments.steps:
                took, _ = run_replay(model, store, arguments.split, batch_size=arguments.batch_size, chunk=1)
                seconds["steps"].append(took)
            took, clipped = run_clips(model, store, chosen, arguments.clips_at_once)
            seconds["clips"].append(took * frames / sampled)
            print(f"clips  {took:.1f} s for {sampled:,} frames", flush=True)
    for way, times in seconds.items():
        if times:
            middle = statistics.median(times)
            note = " (scaled up from the sample)" if way == "clips" and arguments.sample else ""
            spread = f"({min(times):.1f} to {max(times):.1f})"
            print(f"{way:8}{middle:9.1f} s {spread}{frames / middle:10,.0f} frames a second{note}")
    ratios = [clip / whole for clip, whole in zip(seconds["clips"], seconds["replay"], strict=True)]
    print(f"clip by clip takes {statistics.median(ratios):.1f} x the time ({min(ratios):.1f} to {max(ratios):.1f})")
    apart = max(float(np.abs(clipped[name] - scores[name][ends]).max()) for name, ends in chosen.items())
    print(f"largest difference of a score on the {sampled:,} frames: {apart:.1e}")


if __name__ == "__main__":
    main()
