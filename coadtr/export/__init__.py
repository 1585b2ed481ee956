"""Checkpoints in formats that run without this project's training code: ONNX and ``torch.export``."""

from __future__ import annotations

from coadtr.export.graph import StepGraph
from coadtr.export.onnx_file import export_onnx
from coadtr.export.program import export_program
from coadtr.export.verification import TOLERANCE, Agreement

__all__ = ["TOLERANCE", "Agreement", "StepGraph", "export_onnx", "export_program"]
