"""PyTorch, traced, frozen and optimized for inference: THREADS. The protocol is serve.mjs's."""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from serve import answer, read_safetensors


class Graph(torch.nn.Module):
    """The nodes of an ONNX file."""

    def __init__(self, path):
        super().__init__()
        metadata, tensors = read_safetensors(path)
        self.nodes = json.loads(metadata["nodes"])
        self.names = {name: f"constant_{i}" for i, name in enumerate(tensors)}
        for name, tensor in tensors.items():
            self.register_buffer(self.names[name], tensor)

    def forward(self, image):
        values = {name: getattr(self, attribute) for name, attribute in self.names.items()}
        values["input"] = image
        for node in self.nodes:
            inputs = [values[name] for name in node["inputs"]]
            values[node["outputs"][0]] = self.run(node["op"], inputs, node["attributes"])
        return values["logits"]

    def run(self, op, inputs, attributes):
        x = inputs[0]
        if op == "Conv":
            return F.conv2d(*inputs, stride=attributes["strides"], padding=attributes["pads"][:2], groups=attributes["group"])
        if op == "Gemm":
            return F.linear(*inputs)
        if op == "Sigmoid":
            return torch.sigmoid(x)
        if op == "Relu":
            return torch.relu(x)
        if op == "Mul":
            return x * inputs[1]
        if op == "Add":
            return x + inputs[1]
        if op == "GlobalAveragePool":
            return F.adaptive_avg_pool2d(x, 1)
        if op == "MaxPool":
            return F.max_pool2d(x, attributes["kernel_shape"], attributes["strides"], attributes["pads"][:2])
        if op == "Flatten":
            return x.flatten(1)
        if op == "Identity":
            return x
        raise ValueError(f"torch: {op} is not written")


loaded = {}


def load(request):
    net, batch = request["net"], request["batch"]
    images = torch.from_numpy(np.fromfile(request["images"], np.float32)).reshape(-1, batch, 224, 224, 3)
    inputs = [image.permute(0, 3, 1, 2).contiguous() for image in images]
    traced = torch.jit.trace(Graph(net["graph"]).eval(), inputs[0])
    model = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    for _ in range(3):  # the first calls profile and compile
        model(inputs[0])
    loaded[net["name"], batch] = model, inputs
    return {}


def run(request):
    model, inputs = loaded[request["net"]["name"], request["batch"]]
    ms = []
    for i in range(request["from"], request["from"] + request["n"]):
        start = time.perf_counter()
        model(inputs[i % len(inputs)]).numpy()
        ms.append((time.perf_counter() - start) * 1000)
    return {"ms": ms}


def check(request):
    model, inputs = loaded[request["net"]["name"], request["batch"]]
    return {"logits": [model(image).flatten().tolist() for image in inputs]}


torch.set_num_threads(int(sys.argv[1]))
torch.set_grad_enabled(False)
answer({"load": load, "run": run, "check": check})
