"""Measure the cost of the models that `benchmark_models.py` has trained, compare them, and write the tables.

command: python scripts/benchmark_table.py runs/benchmark
Reads the runs, writes results.csv, pairs.csv and table.md beside them. Latency is measured here, in this process, with
all models in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from coadtr.checkpoint import load
from coadtr.data import read_scores
from coadtr.evaluation import macs_per_step, parameters, state_bytes, step_latency
from coadtr.evaluation.metrics import difference_over_seeds, mean_over_seeds
from coadtr.models import OnlineModel

COLUMNS = (
    *("model", "seeds", "mAP % (95 %)", "over seeds", "accuracy %", "kMACs", "parameters", "ms", "state B"),
    "training s",
)
OURS = "grab"
BASELINE = ("cooadtr_b1", "miniroad")
ROUNDS = 5


def read_runs(folder: Path) -> dict[tuple[str, str], dict[int, Path]]:
    """Find the runs of every data set and model, by seed."""
    found = {}
    for path in sorted(folder.glob("*/*/chosen.json")):
        runs = json.loads(path.read_text())["runs"]
        found[path.parent.parent.name, path.parent.name] = {int(seed): Path(run) for seed, run in runs.items()}
    return found


def scores_of(runs: dict[int, Path]) -> list[Any]:
    """Read the scored test videos of each seed."""
    return [read_scores(run / "replay" / "scores.h5").videos for run in runs.values()]


def classes_of(model: Path) -> dict[str, Any]:
    """Read what the metrics must know of the classes."""
    spec = load(model / "checkpoint").spec
    return {"class_names": spec.class_names, "background": spec.background, "ignored": spec.ignored}


def latencies(models: dict[tuple[str, str], OnlineModel]) -> dict[tuple[str, str], float]:
    """Time single steps of all models in turns; return medians in milliseconds, on one thread."""
    torch.set_num_threads(1)
    rounds: dict[tuple[str, str], list[float]] = {key: [] for key in models}
    for _ in range(ROUNDS):
        for key, model in models.items():
            rounds[key].append(step_latency(model, warmup=20, steps=100).p50)
    return {key: statistics.median(values) for key, values in rounds.items()}


def accuracy_table(found: dict[tuple[str, str], dict[int, Path]]) -> pd.DataFrame:
    """Score every model on every data set, and weigh it."""
    first = {key: next(iter(runs.values())) for key, runs in found.items()}
    models = {key: load(run / "checkpoint").model for key, run in first.items()}
    times = latencies(models)
    rows = []
    for (data_set, name), runs in found.items():
        videos, classes = scores_of(runs), classes_of(first[data_set, name])
        precision = mean_over_seeds(videos, **classes)
        right = mean_over_seeds(videos, metric="accuracy", **classes)
        records = [json.loads((run / "benchmark.json").read_text()) for run in runs.values()]
        seconds = [record["cpu_seconds"] for record in records if record["cpu_seconds"] is not None]
        model = models[data_set, name]
        rows.append(
            {
                "data set": data_set,
                "model": name,
                "seeds": precision.seeds,
                "mAP": precision.value,
                "mAP low": precision.interval[0] if precision.interval else None,
                "mAP high": precision.interval[1] if precision.interval else None,
                "mAP deviation": precision.deviation,
                "accuracy": right.value,
                "MACs": macs_per_step(model),
                "parameters": parameters(model),
                "latency_ms": times[data_set, name],
                "state_bytes": state_bytes(model.init_state(1)),
                "training_cpu_s": statistics.median(seconds) if seconds else None,
                "rate": float(runs[min(runs)].name.split("-seed-")[0].removeprefix("rate-")),
            }
        )
    return pd.DataFrame(rows).sort_values(["data set", "mAP"], ascending=[True, False])


def pair_table(found: dict[tuple[str, str], dict[int, Path]]) -> pd.DataFrame:
    """Compare our model with each other one, and the baseline pair, over the same videos and seeds."""
    rows = []
    for data_set in dict.fromkeys(key[0] for key in found):
        names = [name for place, name in found if place == data_set]
        pairs = [(OURS, name) for name in names if name != OURS] if OURS in names else []
        pairs += [BASELINE] if set(BASELINE) <= set(names) else []
        for first, second in pairs:
            runs = [found[data_set, name] for name in (first, second)]
            shared = sorted(set(runs[0]) & set(runs[1]))
            videos = [scores_of({seed: part[seed] for seed in shared}) for part in runs]
            difference = difference_over_seeds(*videos, **classes_of(runs[0][shared[0]]))
            low, high = difference.interval or (None, None)
            rows.append(
                {
                    "data set": data_set, "first": first, "second": second, "seeds": difference.seeds,
                    "difference": difference.value, "low": low, "high": high, "deviation": difference.deviation,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def as_markdown(table: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Write both tables as Markdown, values in percent and points."""
    text = []
    for data_set, rows in table.groupby("data set", sort=False):
        text.append(f"### {data_set}\n")
        text.append(f"| {' | '.join(COLUMNS)} |")
        text.append("|---" * len(COLUMNS) + "|")
        for row in rows.to_dict("records"):
            spread = "" if pd.isna(row["mAP deviation"]) else f"± {100 * row['mAP deviation']:.1f}"
            span = "" if pd.isna(row["mAP low"]) else f" ({100 * row['mAP low']:.1f}-{100 * row['mAP high']:.1f})"
            spent = "" if pd.isna(row["training_cpu_s"]) else f"{row['training_cpu_s']:.0f}"
            cells = [
                row["model"],
                str(row["seeds"]),
                f"{100 * row['mAP']:.1f}{span}",
                spread,
                f"{100 * row['accuracy']:.1f}",
            ]
            cells += [f"{row['MACs'] / 1e3:.1f}", f"{row['parameters']:,}", f"{row['latency_ms']:.2f}"]
            cells += [f"{row['state_bytes']:,}", spent]
            text.append(f"| {' | '.join(cells)} |")
        text.append("")
    text.append("| data set | difference of mAP | seeds | points (95 %) | over seeds |")
    text.append("|---|---|---|---|---|")
    for row in pairs.to_dict("records"):
        span = "" if pd.isna(row["low"]) else f" ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        spread = "" if pd.isna(row["deviation"]) else f"± {100 * row['deviation']:.1f}"
        compared = f"{row['first']} - {row['second']} | {row['seeds']} | {100 * row['difference']:+.1f}{span}"
        text.append(f"| {row['data set']} | {compared} | {spread} |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure, compare and write."""
    parser = argparse.ArgumentParser(description="Compare the models that benchmark_models.py has trained.")
    parser.add_argument("out", type=Path, help="folder of the runs")
    folder = parser.parse_args().out
    found = read_runs(folder)
    if not found:
        raise SystemExit(f"{folder} holds no finished model: run scripts/benchmark_models.py --out {folder} first")
    table, pairs = accuracy_table(found), pair_table(found)
    table.to_csv(folder / "results.csv", index=False)
    pairs.to_csv(folder / "pairs.csv", index=False)
    (folder / "table.md").write_text(as_markdown(table, pairs))
    console = Console(soft_wrap=True, highlight=False)
    console.print((folder / "table.md").read_text(), markup=False)
    console.print(f"written to {folder / 'results.csv'}, pairs.csv and table.md")


if __name__ == "__main__":
    main()
