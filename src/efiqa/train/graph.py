"""PyTorch → ONNX: the one place that calls the exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import onnx
import onnx_ir
import onnxscript.optimizer
import torch
from torch import nn

from efiqa.errors import ModelError


def to_onnx(model: nn.Module, size: int, outputs: Sequence[str] = ("score",)) -> onnx.ModelProto:
    """The graph (opset 18) of `model` for uint8 `image` (n, size, size, 3), n free.

    Raises ModelError where a tensor has more than four dimensions, which several runtimes refuse.
    """
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Some versions of the exporter warn of changes to come in what they call themselves.
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        program = torch.onnx.export(
            model.eval(),
            (example,),
            input_names=["image"],
            output_names=list(outputs),
            dynamic_shapes={"image": {0: torch.export.Dim("n")}},
            opset_version=18,
            dynamo=True,
            verbose=False,
            optimize=False,
        )
    if program is None:
        raise ModelError("the exporter gave no graph")
    _optimize_around_weights(program.model)
    graph = onnx.shape_inference.infer_shapes(program.model_proto)
    for value in graph.graph.value_info:
        if len(value.type.tensor_type.shape.dim) > 4:
            raise ModelError(
                f"tensor {value.name!r} has more than four dimensions, which several runtimes refuse"
            )
    del graph.graph.value_info[:]
    for node in graph.graph.node:  # the exporter's notes name files of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    for tensor in [*graph.graph.initializer, *graph.graph.input, *graph.graph.output]:
        del tensor.metadata_props[:]
    del graph.graph.metadata_props[:]
    del graph.metadata_props[:]
    return graph


def _optimize_around_weights(model: onnx_ir.Model) -> None:
    """Simplify the graph, with every weight left as it is and under its name in the PyTorch model.

    The exporter's own optimiser folds normalisation into convolutions and transposes weights, so that
    nobody could train on from the file. It cannot fold what it takes for inputs. Runtimes fold when they
    load the file and run as fast (EfficientNet-Lite0 cut to 5 stages loads in 16 ms instead of 11).
    """
    graph = model.graph
    weights = list(graph.initializers.values())
    own = len(graph.inputs)
    graph.initializers.clear()
    graph.inputs.extend(weights)
    onnxscript.optimizer.optimize(model)
    del graph.inputs[own:]
    for weight in weights:
        graph.register_initializer(weight)
