"""Write an exported checkpoint."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coadtr import __version__
from coadtr.checkpoint.folder import new_folder
from coadtr.checkpoint.loading import CONFIG_FILE, FILES, FORMAT, ORIGIN_FILE, VERSION, WEIGHTS_FILE
from coadtr.checkpoint.weights import DTYPES, check_weights, fresh_model, pack_weights, weights_digest
from coadtr.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coadtr.checkpoint.spec import CheckpointSpec
    from coadtr.models import OnlineModel

__all__ = ["save_checkpoint"]

_DTYPE_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


def save_checkpoint(
    path: str | Path,
    model: OnlineModel,
    spec: CheckpointSpec,
    origin: Mapping[str, object],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a model as a checkpoint folder, whole or not at all.

    Args:
        path: The folder to make; missing parents are made.
        model: The trained model, on any device, in one floating dtype.
        spec: Its description.
        origin: Where it came from (data, metric, command, ...), as JSON values. ``code_version`` and ``created``
            (UTC, ISO 8601) are added where they are absent.
        overwrite: Take the place of a checkpoint that is there. A folder with anything else in it stays.

    Returns:
        ``path``.

    Raises:
        CheckpointError: If the model is not what ``spec`` describes, a weight is not finite, ``origin`` is no JSON
            object, or ``path`` is taken or cannot be written. Nothing is left behind.

    Example:
        >>> import tempfile
        >>> from coadtr.checkpoint import CheckpointSpec, load
        >>> from coadtr.models import build_model, preset
        >>> model = build_model(preset("cooadtr_b1", input_dim=4, num_classes=2, embed_dim=8, num_heads=2, window=4))
        >>> spec = CheckpointSpec(model=model.config, class_names=("rest", "lift"), background=0, ignored=None,
        ...                       streams={"imu": 4}, rate_hz=5.0)
        >>> path = save_checkpoint(Path(tempfile.mkdtemp()) / "checkpoint", model, spec, {"metric": {"mAP": 0.8}})
        >>> sorted(file.name for file in path.iterdir())
        ['config.json', 'model.safetensors', 'origin.json']
        >>> load(path).origin["metric"]
        {'mAP': 0.8}
    """
    if model.config != spec.model:
        built, described = model.config.to_dict(), spec.model.to_dict()
        names = [name for name in {**built, **described} if built.get(name) != described.get(name)]
        differ = ", ".join(f"{name} {described.get(name)!r}, not {built.get(name)!r}" for name in names)
        raise CheckpointError(f"spec describes another model than the one to save: {differ}; use model.config")
    dtype = model.inputs.embed.weight.dtype
    if dtype not in _DTYPE_NAMES:
        raise CheckpointError(f"the model is {dtype}; convert it to one of {', '.join(DTYPES)} to save it")
    check_weights(model.state_dict(), fresh_model(spec.model, dtype), "the model to save")
    packed = pack_weights(model)
    config = {
        "format": FORMAT,
        "version": VERSION,
        **spec.to_dict(),
        "dtype": _DTYPE_NAMES[dtype],
        "weights_sha256": weights_digest(packed),
    }
    added = {"code_version": f"coadtr {__version__}", "created": datetime.now(UTC).isoformat(timespec="seconds")}
    texts = {
        CONFIG_FILE: _to_json(config, CONFIG_FILE),
        ORIGIN_FILE: _to_json(
            {**origin, **{key: value for key, value in added.items() if key not in origin}}, "origin"
        ),
    }
    with new_folder(path, overwrite=overwrite, own=FILES) as folder:
        (folder / WEIGHTS_FILE).write_bytes(packed)
        for name, text in texts.items():
            (folder / name).write_bytes(text)
    return Path(path)


def _to_json(values: Mapping[str, object], what: str) -> bytes:
    try:
        return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{what} holds what JSON cannot ({error}); give text, finite numbers and lists"
        ) from error
