"""From the record of an extractor, which stores and checkpoints keep, back to the networks that it tells of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from coadtr.errors import ConfigError
from coadtr.video.backbones import OFFLINE
from coadtr.video.sampling import Sampling
from coadtr.video.workers import Extraction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coadtr.video.workers import Networks

__all__ = ["check_rebuilt", "recorded_extraction", "recorded_sampling"]

_STREAMS: Final = ("rgb", "flow")
_WEIGHTS: Final = re.compile(r"(?P<name>[^()]+) \(sha256 [0-9a-f]{12}\)")
_CLIP: Final = re.compile(r"(?P<frames>\d{1,4}) frames\b.*")
_MOST_HZ: Final = 1000.0  # features a second: a file could ask for any number of them
_RATE: Final = re.compile(
    r"rate: (?P<rate>[\d.]{1,12}) features a second, (each of the frame|chunks of (?P<chunk>\d{1,4}))"
)


def recorded_sampling(text: str) -> Sampling:
    """Read what `Sampling.describe` wrote.

    Raises:
        ConfigError: If it is another text.

    Example:
        >>> recorded_sampling(Sampling(preset="rate", rate_hz=2.0, chunk=8).describe()).size
        8
    """
    found: Sampling | None = None
    if match := _RATE.match(text):
        rate, chunk = match["rate"], match["chunk"]
        if rate.count(".") < 2 and 0 < float(rate) <= _MOST_HZ and chunk != "0":
            found = Sampling(preset="rate", rate_hz=float(rate), chunk=None if chunk is None else int(chunk))
    elif (preset := text.partition(":")[0]) in ("lstr", "oadtr"):
        found = Sampling(preset=preset)
    if found is None or found.describe() != text:
        raise ConfigError(f"the sampling {text!r} is not known here; extract the features anew by `coadtr extract`")
    return found


def recorded_extraction(
    extractors: Mapping[str, Mapping[str, str]],
    streams: Mapping[str, int],
    *,
    device: str = "cpu",
    threads: int = 1,
) -> Extraction:
    """Say how the features that a checkpoint was trained on are made again.

    Args:
        extractors: What made each stream, as `Backbone.describe` and `FlowBackbone.describe` write it.
        streams: Name and channels of each stream that the checkpoint takes.
        device: Where the networks compute.
        threads: Threads of torch.

    Returns:
        Networks and sampling. Their weights may differ still: `check_rebuilt` tells.

    Raises:
        ConfigError: If a stream has no record, or one that is not of this project.

    Example:
        >>> made = {"backbone": "resnet18", "weights": "random (sha256 0123456789ab)"}
        >>> made["sampling"] = Sampling().describe()
        >>> recorded_extraction({"rgb": made}, {"rgb": 512}).backbone
        'resnet18'
    """
    remedy = "train on features of `coadtr extract`, or push features of your own (docs/runtime.md)"
    for name in streams:
        told = extractors.get(name)
        if told is None or name not in _STREAMS:
            raise ConfigError(f"the checkpoint does not say what made its features {name!r} of pictures; {remedy}")
        if missing := [key for key in ("backbone", "weights", "sampling") if key not in told]:
            raise ConfigError(f"the record of the features {name!r} has no {missing[0]}; {remedy}")
    samplings = {extractors[name]["sampling"] for name in streams}
    if len(samplings) != 1:
        raise ConfigError(f"the features were sampled in several ways ({'; '.join(sorted(samplings))}); {remedy}")
    rgb, flow = (extractors[name] if name in streams else None for name in _STREAMS)
    network, _, inner = ("", "", "") if flow is None else flow["backbone"].partition(" + ")
    own, _, pictures = ("", "", "") if flow is None else flow["weights"].partition(" + ")
    return Extraction(
        backbone=None if rgb is None else rgb["backbone"],
        weights=None if rgb is None else _weights(rgb["backbone"], rgb["weights"]),
        clip=None if rgb is None else _clip(rgb.get("clip")),
        flow=None if flow is None else network,
        flow_weights=None if flow is None else _weights(network, own),
        flow_backbone=inner or None,
        flow_backbone_weights=_weights(inner, pictures) if inner else None,
        sampling=recorded_sampling(samplings.pop()),
        dtype="float32",
        device=device,
        threads=threads,
    )


def check_rebuilt(networks: Networks, sampling: Sampling, extractors: Mapping[str, Mapping[str, str]]) -> None:
    """Make sure that networks are those of a record, to the hash of their weights.

    Raises:
        ConfigError: If one is not.

    Example:
        >>> check_rebuilt({}, Sampling(), {})
    """
    for name, network in networks.items():
        found, told = network.describe(sampling), extractors[name]
        for key, value in found.items():
            if told.get(key) != value:
                raise ConfigError(
                    f"the checkpoint was trained on features {name!r} whose {key} is {told.get(key)!r}, and here it is "
                    f"{value!r}; use the version of the package with those weights"
                )


def _clip(text: str | None) -> int | None:
    if text is None:
        return None
    match = _CLIP.fullmatch(text)
    if match is None:
        raise ConfigError(f"the clip {text!r} is not known here; extract the features anew by `coadtr extract`")
    return int(match["frames"])


def _weights(network: str, text: str) -> str | None:
    if network == OFFLINE:
        return None  # it has one set
    match = _WEIGHTS.fullmatch(text)
    if match is None:
        raise ConfigError(f"the weights {text!r} of {network} are not known here; extract the features anew")
    return match["name"]
