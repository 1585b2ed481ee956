"""Adapted modules nested in continual-inference's containers, beside its convolutions: all ways of calling agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import continual as co
import pytest
import torch

from coadtr.interop import FirstFrames, as_comodule
from coadtr.layers import LookAheadAttention
from tests.interop.subjects import ANSWERING, LENGTH, WIDTH, WINDOW, frames, make, near, stepped


def adapted(name: str = "encoder_2", first_frames: FirstFrames = "answered") -> Any:
    return as_comodule(make(name), first_frames=first_frames)


def conv(kernel_size: int, padding: int = 0) -> Any:
    return co.Conv1d(WIDTH, WIDTH, kernel_size, padding=padding, dtype=torch.float64)


def centred() -> Any:
    return conv(5, 2)


# The container, its delay, and how many frames fewer than it is given `forward` answers.
NETS: dict[str, tuple[Callable[[], Any], int, int]] = {
    "after_and_before_padded": (lambda: co.Sequential(centred(), adapted(), conv(3, 1)), 3, 0),
    "after_and_before_unpadded": (lambda: co.Sequential(conv(3), adapted(), conv(2)), 3, 3),
    "silent_between_unpadded": (lambda: co.Sequential(conv(3), adapted("stack", "silent"), conv(2)), 15, 15),
    "answered_then_silent": (lambda: co.Sequential(adapted("block"), adapted("block", "silent")), 4, 4),
    "with_positions": (lambda: co.Sequential(adapted("positions"), adapted("encoder_1")), 0, 0),
    "beside_padded": (lambda: co.BroadcastReduce(centred(), adapted()), 2, 0),
    "beside_padded_joined": (lambda: co.BroadcastReduce(conv(3, 1), adapted(), centred(), reduce="concat"), 2, 0),
    "beside_wide_padded": (lambda: co.BroadcastReduce(conv(15, 7), adapted("attention")), 7, 0),
    "silent_beside_unpadded": (lambda: co.BroadcastReduce(conv(WINDOW), adapted("block", "silent")), 4, 4),
    "residual": (lambda: co.Residual(adapted()), 0, 0),
    "residual_shrunk": (lambda: co.Residual(adapted(), residual_shrink=True), 0, 0),
    "silent_residual": (lambda: co.Residual(adapted("block", "silent"), residual_shrink="leading"), 4, 4),
    "look_ahead_residual": (lambda: co.Residual(adapted("look_ahead"), residual_shrink="lagging"), 1, 1),
    "nested": (
        lambda: co.Sequential(co.Residual(adapted("block")), co.BroadcastReduce(centred(), adapted()), conv(3, 1)),
        3,
        0,
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_forward_steps_and_single_steps_agree(name: str) -> None:
    build, delay, fewer = NETS[name]
    net, x = build().eval(), frames()
    assert net.delay == delay
    assert co.Sequential(net).delay == delay, "receptive field and padding tell another delay"
    with torch.no_grad():
        whole = net.forward(x)
        assert whole.shape[2] == LENGTH - fewer
        due = whole[:, :, : LENGTH - delay]
        near(stepped(net, x), due)
        for sizes in ([LENGTH], [16, 7]):
            net.clean_state()
            chunks = [net.forward_steps(chunk) for chunk in x.split(sizes, 2)]
            near(torch.cat([chunk for chunk in chunks if chunk is not None], 2), due)


@pytest.mark.parametrize("name", ["after_and_before_padded", "with_positions", "residual"])
def test_the_padded_end_is_answered_too(name: str) -> None:
    net, x = NETS[name][0]().eval(), frames()
    with torch.no_grad():
        near(net.forward_steps(x, pad_end=True), net.forward(x))


@pytest.mark.parametrize("name", ["block", "silent_block", "look_ahead"])
def test_a_residual_adds_the_frame_that_asks(name: str) -> None:
    silent = name.startswith("silent")
    module = adapted(name.removeprefix("silent_"), "silent" if silent else "answered").eval()
    shrink = {"block": False, "silent_block": "leading", "look_ahead": "lagging"}[name]
    net, x = co.Residual(module, residual_shrink=shrink).eval(), frames()
    with torch.no_grad():
        answers = module.forward(x)
        first = 4 if silent else 0
        near(net.forward(x), answers + x[:, :, first : first + answers.shape[2]])


def test_a_residual_of_a_centred_query_names_its_delay() -> None:
    # co.Residual takes a look-ahead of (N - 1) / 2 for a convolution padded at both ends, which keeps the length.
    module, x = as_comodule(LookAheadAttention(WIDTH, 2, WINDOW, lookahead=2).double()).eval(), frames()
    net = co.BroadcastReduce(co.Delay(2, auto_shrink="lagging"), module, auto_delay=False).eval()
    with torch.no_grad():
        near(net.forward(x), module.forward(x) + x[:, :, :-2])
        near(stepped(net, x), net.forward(x))


@pytest.mark.parametrize("name", [name for name in ANSWERING if not name.startswith(("cooadtr", "oadtr"))])
def test_every_layer_lines_up_after_a_convolution(name: str) -> None:
    net, x = co.Sequential(centred(), adapted(name), co.Linear(WIDTH, 3, channel_dim=1)).double().eval(), frames()
    with torch.no_grad():
        near(stepped(net, x), net.forward(x)[:, :, : LENGTH - net.delay])


@pytest.mark.parametrize("name", ["cooadtr_b1", "cooadtr_b2", "oadtr_b1"])
def test_a_detector_classifies_what_a_convolution_makes(name: str) -> None:
    net, x = co.Sequential(conv(3), adapted(name)).eval(), frames()
    with torch.no_grad():
        whole = net.forward(x)
        near(stepped(net, x), whole)
        near(whole, make(name)(net[0].forward(x).transpose(1, 2)).transpose(1, 2))


def test_a_container_warms_up_and_forgets() -> None:
    net, x = co.Sequential(conv(3), adapted("block", "silent"), conv(2)).eval(), frames()
    with torch.no_grad():
        net.forward_steps(torch.zeros(2, WIDTH, net.delay, dtype=torch.float64))  # its warm_up knows float32 alone
        assert net.forward_step(x[:, :, 0]) is not None
        net.clean_state()
        assert net.forward_step(x[:, :, 0]) is None
    single = co.Sequential(co.Conv1d(WIDTH, WIDTH, 3), as_comodule(make("block", torch.float32), first_frames="silent"))
    single.eval().warm_up((2, WIDTH))
    assert single.forward_step(x[:, :, 0].float()) is not None
