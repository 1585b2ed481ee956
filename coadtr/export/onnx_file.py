"""A checkpoint as one ONNX file: its step, with the state as named inputs and outputs."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from coadtr.data.atomic import replacing
from coadtr.errors import CheckpointError, ConfigError, MissingExtraError
from coadtr.export.description import describe
from coadtr.export.graph import StepGraph, trace
from coadtr.export.target import require_target
from coadtr.export.verification import Agreement, compare, require_agreement
from coadtr.runtime.description import FORMAT, KEY

if TYPE_CHECKING:
    from coadtr.checkpoint import Checkpoint

__all__ = ["OPSET", "PRECISIONS", "export_onnx"]

OPSET: Final = 20
PRECISIONS: Final = ("float32", "float16", "int8")


def export_onnx(
    checkpoint: Checkpoint, out: str | Path, *, precision: str = "float32", overwrite: bool = False
) -> Agreement:
    """Write a checkpoint's step as an ONNX file that `coadtr.runtime` runs without torch.

    Inputs are ``frame`` ``(B, D)`` float32 and ``state.<name>`` ``(B, ...)`` for each tensor of the state; outputs are
    ``logits`` ``(B, C)`` float32 and ``next.<name>`` for each. B is dynamic. The metadata property ``coadtr`` holds a
    JSON object with classes, feature streams, rate, head, the layout of the state with a fresh stream's values, and the
    digest of the weights. Standardisation of the input is part of the graph.

    The file is run beside the model, from a fresh and from a warm state, and takes its name only if they agree.

    Args:
        checkpoint: What is exported, in float32.
        out: The file.
        precision: ``"float32"``; ``"float16"`` stores and computes weights and activations in half precision, state and
            logits stay float32; ``"int8"`` stores the weights of matrix products in 8 bits and quantises their inputs
            as they come (ONNX Runtime's dynamic quantisation).
        overwrite: Replace a file that is there.

    Returns:
        How far its scores are from the model's.

    Raises:
        ConfigError: If the precision is unknown, ``out`` is there already, or the model is not in float32.
        CheckpointError: If the file's scores differ from the model's by more than the precision explains.
        MissingExtraError: If a package of the extra ``export`` is not installed.
    """
    path = Path(out)
    require_target(path, precision, PRECISIONS, kind="an ONNX file", overwrite=overwrite)
    if (dtype := next(checkpoint.model.parameters()).dtype) != torch.float32:
        raise ConfigError(f"{checkpoint.path} is in {str(dtype).removeprefix('torch.')}: export a float32 checkpoint")
    _require_packages()
    graph = StepGraph(checkpoint.model)
    with replacing(path) as part:
        _convert(graph, precision, part)
        _attach(part, {KEY: describe(checkpoint, graph, form=FORMAT, precision=precision, opset=OPSET)})
        agreement = compare(checkpoint, _runner(part))
        require_agreement(agreement, precision, str(path))
    return agreement


def _convert(graph: StepGraph, precision: str, part: Path) -> None:
    inputs = ["frame", *(f"state.{name}" for name in graph.names)]
    outputs = ["logits", *(f"next.{name}" for name in graph.names)]
    try:
        with _quietly():
            program = torch.onnx.export(
                trace(graph),
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
                external_data=False,
            )
            if program is None:
                raise CheckpointError("the exporter returned nothing")
            proto = program.model_proto
            if precision == "float16":
                proto = _in_half(proto, [*inputs, *outputs])
            _save(proto, part)
            if precision == "int8":
                _quantise(part)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise CheckpointError(
            f"{type(graph.model).__name__} cannot be exported to ONNX ({str(error).splitlines()[0]}); "
            "export format=pt2, or report it"
        ) from error


def _in_half(proto: Any, kept: list[str]) -> Any:
    """Convert weights and products; what the input goes through before it is embedded stays in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415
    from onnxruntime.transformers.onnx_model import OnnxModel  # noqa: PLC0415

    raw, prepared = {"frame"}, []
    for node in proto.graph.node:
        if raw & set(node.input) and node.op_type not in ("MatMul", "Gemm"):
            raw |= set(node.output)
            prepared.append(node.name)
    half = OnnxModel(convert_float_to_float16(proto, keep_io_types=kept, node_block_list=prepared))
    half.topological_sort()  # the converter puts its casts at the end
    return half.model


def _quantise(part: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=part.parent, prefix=".") as folder:
        shaped, small = Path(folder) / "shaped.onnx", Path(folder) / "small.onnx"
        quant_pre_process(part, shaped, skip_symbolic_shape=True)
        quantize_dynamic(shaped, small, weight_type=QuantType.QInt8, per_channel=True)
        small.replace(part)


def _save(proto: Any, part: Path) -> None:
    part.write_bytes(proto.SerializeToString())


def _attach(part: Path, properties: dict[str, str]) -> None:
    import onnx  # noqa: PLC0415

    proto = onnx.load(part)
    onnx.helper.set_model_props(proto, properties)
    onnx.checker.check_model(proto)
    _save(proto, part)


def _runner(part: Path) -> Any:
    from coadtr.runtime import OnnxStepper  # noqa: PLC0415

    return OnnxStepper(part).step


@contextlib.contextmanager
def _quietly() -> Any:
    """Keep what the exporter says of its own progress from the user, who can do nothing with it."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _require_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtraError(
                f"exporting to ONNX needs {name}: install the extra, pip install 'coadtr[export]'"
            ) from error
