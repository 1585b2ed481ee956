"""Classifiers of torchvision by name, without their classification layer."""

from __future__ import annotations

import difflib
import inspect
import sys
import urllib.error
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision import models

from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RANDOM", "Classifier", "drop_classifier", "find_weights", "load_classifier", "load_weights", "model_names"]

RANDOM: Final = "random"
"""Weights that are drawn from a fixed seed: for tests of a pipeline where no weights can be had."""

_OFFLINE: Final = "backbone=efficientnet_lite0 needs no download"


class Classifier(NamedTuple):
    """A network that is ready to make features.

    Attributes:
        module: The network; it ends before the classification layer.
        dim: Channels D of its features.
        weights: Name of its weights.
        transform: What its weights were trained on: from uint8 ``(3, H, W)`` or ``(T, 3, H, W)`` to the input.
        takes_clips: Whether it takes several frames.
        least_frames: Frames that it needs at least.
        exact_frames: Whether it takes no more than those.
    """

    module: nn.Module
    dim: int
    weights: str
    transform: Callable[[Tensor], Tensor]
    takes_clips: bool
    least_frames: int
    exact_frames: bool


def model_names() -> tuple[str, ...]:
    """Return the names of all image and video classifiers of the installed torchvision.

    Example:
        >>> {"resnet50", "r2plus1d_18", "swin3d_t"} <= set(model_names())
        True
    """
    return (*models.list_models(module=models), *models.list_models(module=models.video))


def load_classifier(name: str, weights: str | None = None) -> Classifier:
    """Build a classifier of torchvision, load its weights and take its classification layer off.

    Args:
        name: Name of the model, such as ``resnet50`` or ``swin3d_t``.
        weights: Name of the weights, such as ``IMAGENET1K_V2``; none for the best that torchvision has,
            ``'random'`` for values from a fixed seed.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        ConfigError: If torchvision has no such model or weights.
        DataError: If the weights cannot be downloaded or read.

    Example:
        >>> load_classifier("resnet18", "random").dim
        512
    """
    known = model_names()
    if name not in known:
        near = difflib.get_close_matches(name, [*known, "efficientnet_lite0"], n=3)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(
            f"unknown backbone {name!r}{meant} Use efficientnet_lite0 or a classifier of torchvision.models"
        )
    chosen = find_weights(name, weights)
    classes = len(chosen.meta["categories"])
    module = _build(name, classes)
    if weights != RANDOM:
        load_weights(module, chosen, name)
        if hasattr(module, "transform_input"):  # GoogLeNet and Inception: what torchvision itself does with weights
            setattr(module, "transform_input", True)  # noqa: B010 - the checker takes it for a submodule
    dim = drop_classifier(module, classes, name)
    return Classifier(
        module=module.eval(),
        dim=dim,
        weights=RANDOM if weights == RANDOM else str(chosen),
        transform=cast("Callable[[Tensor], Tensor]", chosen.transforms()),
        takes_clips=name in models.list_models(module=models.video),
        least_frames=int(chosen.meta.get("min_temporal_size", 1)),
        exact_frames=name.startswith("mvit"),  # its position embeddings have that length
    )


def find_weights(name: str, weights: str | None) -> Any:
    """Return the entry of torchvision's weights enum of a model.

    Args:
        name: Name of the model.
        weights: Name of the weights, with or without that of the enum; none or ``'random'`` for the default.

    Raises:
        ConfigError: If the model has no such weights.

    Example:
        >>> str(find_weights("resnet50", "IMAGENET1K_V1"))
        'ResNet50_Weights.IMAGENET1K_V1'
    """
    every = models.get_model_weights(name)
    if weights in (None, RANDOM):
        return every.DEFAULT
    short = str(weights).rpartition(".")[2]
    if short not in every.__members__:
        raise ConfigError(f"backbone {name} has no weights {weights!r}: use one of {', '.join(every.__members__)}")
    return every[short]


def load_weights(module: nn.Module, weights: Any, name: str) -> None:
    """Download weights, or take them from torch's cache, and load them as data alone (no code of the file runs).

    Args:
        module: The network.
        weights: Entry of torchvision's weights enum.
        name: Name of the model, for messages.

    Raises:
        DataError: If they cannot be had.
    """
    try:
        state = weights.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
        )
        module.load_state_dict(state)
    except (OSError, urllib.error.URLError, RuntimeError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise DataError(
            f"backbone {name}: weights {weights} cannot be loaded from {weights.url} ({cause}): "
            f"put that file into {torch.hub.get_dir()}/checkpoints, or use another backbone: {_OFFLINE}"
        ) from error


def _build(name: str, classes: int) -> nn.Module:
    builder = models.get_model_builder(name)
    # Two old models draw their first weights slowly, and warn about it, unless told otherwise.
    slow = "init_weights" in inspect.signature(inspect.unwrap(builder)).parameters or name in (
        "googlenet",
        "inception_v3",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)
        warnings.simplefilter("ignore", FutureWarning)
        return cast(
            "nn.Module", builder(weights=None, num_classes=classes, **({"init_weights": False} if slow else {}))
        )


def drop_classifier(module: nn.Module, classes: int, name: str) -> int:
    """Replace the layer that classifies by one that passes its input on.

    That is the last linear layer, or the last convolution where there is none, with as many outputs as classes.

    Args:
        module: The network; it is changed.
        classes: Number of classes.
        name: Name of the model, for messages.

    Returns:
        Channels of what now comes out.

    Raises:
        ConfigError: If there is no such layer.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> drop_classifier(network, 3, "tiny"), network[2]
        (8, Identity())
    """
    kinds: Sequence[tuple[type[nn.Module], ...]] = ((nn.Linear,), (nn.Conv2d, nn.Conv3d))
    for kind in kinds:
        for path, layer in reversed(list(module.named_modules())):
            outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
            if isinstance(layer, kind) and outputs == classes:
                parent, _, last = path.rpartition(".")
                setattr(module.get_submodule(parent), last, nn.Identity())
                return int(getattr(layer, "in_features", getattr(layer, "in_channels", 0)))
    raise ConfigError(f"backbone {name!r} has no layer of {classes} outputs to take off: use another backbone")
