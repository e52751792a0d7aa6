"""Steps of stage I in PyTorch, the fastest way we found: THREADS. The protocol is train-dsnet.mjs's."""

import json
import sys
import time
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F
from serve import answer, read_safetensors

MOMENTUM = 0.1  # of running statistics


class Supernet:
    """A table of separable blocks with shortcuts and one gate, its weights sliced to the width in force. Names are the weights file's."""

    def __init__(self, spec, tensors):
        self.tensors = tensors
        # How many widths' statistics a norm holds.
        self.entries = Counter(name.split(".aux_bn.")[0] for name in tensors if name.endswith(".running_mean"))
        stem = {"kind": "conv", "name": "conv_stem", "norm": "bn1", **spec["stem"]}
        self.head, self.tail = [stem], None
        before = spec["stem"]["widths"]
        for i, stage in enumerate(spec["stages"]):
            assert stage["block"] == "separable" and spec["act"] == "swish"
            assert spec["residual"] is True and spec.get("actAfterSum") is True
            for j in range(stage["repeat"]):
                name = f"blocks.{i}.first_block" if j == 0 else f"blocks.{i}.residual_blocks.{j - 1}"
                stride = stage["stride"] if j == 0 else 1
                steps = self.head if self.tail is None else self.tail
                steps.append({"kind": "depthwise", "name": f"{name}.conv_dw", "norm": f"{name}.bn1", **stage, "stride": stride})
                steps.append({"kind": "attention", "name": f"{name}.gate"})
                if j in stage.get("gates", []):
                    self.tail = []
                steps = self.head if self.tail is None else self.tail
                shortcut = {"pool": stride == 2, "conv": None}
                if before[-1] != stage["widths"][-1]:
                    shortcut["conv"] = f"{name}.downsample.{1 if stride == 2 else 0}"
                pointwise = {"kernel": 1, "stride": 1, "widths": stage["widths"], "shortcut": shortcut}
                steps.append({"kind": "conv", "name": f"{name}.conv_pw", "norm": f"{name}.bn2", **pointwise})
                before = stage["widths"]
        self.tail.append({"kind": "classifier", "name": "classifier"})

    def walk(self, steps, x, around, slot, training, momentum=MOMENTUM, dropout=0.0):
        """Returns the activation and `around`, the input of its block: the gate is inside one, so both pass it."""
        for step in steps:
            if step["kind"] == "depthwise":
                around = x
            x = getattr(self, step["kind"])(x, step, slot, training, momentum, dropout)
            if "shortcut" in step:
                x = F.silu(x + self.shortcut(around, step["shortcut"], x.shape[1]))
        return x, around

    def shortcut(self, x, step, cout):
        if step["pool"]:
            x = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        return x if step["conv"] is None else F.conv2d(x, self.tensors[step["conv"] + ".weight"][:cout, : x.shape[1]])

    def conv(self, x, step, slot, training, momentum, _):
        widths, kernel, stride = step["widths"], step["kernel"], step["stride"]
        cout = widths[slot] if len(widths) > 1 else widths[0]
        weight = self.tensors[step["name"] + ".weight"][:cout, : x.shape[1]]
        x = F.conv2d(x, weight, stride=stride, padding=(stride + kernel - 2) // 2)
        x = self.norm(x, step["norm"], slot, training, momentum)
        return x if "shortcut" in step else F.silu(x)

    def depthwise(self, x, step, slot, training, momentum, _):
        kernel, stride, c = step["kernel"], step["stride"], x.shape[1]
        weight = self.tensors[step["name"] + ".weight"][:c]
        x = F.conv2d(x, weight, stride=stride, padding=(stride + kernel - 2) // 2, groups=c)
        return F.silu(self.norm(x, step["norm"], slot, training, momentum))

    def norm(self, x, name, slot, training, momentum):
        entries = self.entries[name]
        own, last = f"{name}.aux_bn.{slot if entries > 1 else 0}", f"{name}.aux_bn.{entries - 1}"
        get, c = self.tensors.get, x.shape[1]
        weight, bias = get(last + ".weight")[:c], get(last + ".bias")[:c]
        return F.batch_norm(x, get(own + ".running_mean"), get(own + ".running_var"), weight, bias, training, momentum, 1e-5)

    def attention(self, x, step, *_):
        c, name, get = x.shape[1], step["name"], self.tensors.get
        reduce, expand = get(name + ".conv_reduce.weight"), get(name + ".conv_expand.weight")
        pooled = x.mean((2, 3))
        reduced = F.relu(F.linear(pooled, reduce[:, :c, 0, 0], get(name + ".conv_reduce.bias")))
        factor = torch.sigmoid(F.linear(reduced, expand[:c, :, 0, 0], get(name + ".conv_expand.bias")[:c]))
        return x * factor[:, :, None, None]

    def classifier(self, x, step, _slot, _training, _momentum, dropout):
        features = F.dropout(x.mean((2, 3)), dropout) if dropout > 0 else x.mean((2, 3))
        weight = self.tensors["classifier.weight"][:, : features.shape[1]]
        return F.linear(features, weight, self.tensors["classifier.bias"])


state = {}


def load(request):
    metadata, tensors = read_safetensors(request["weights"])
    spec, batch = json.loads(metadata["spec"]), request["batch"]
    size = spec["input"]
    shape = -1, size["height"], size["width"], size["channels"]
    images = torch.from_numpy(np.fromfile(request["images"], np.float32)).reshape(shape)[:batch].permute(0, 3, 1, 2)
    # In this layout (N, H, W, C) a step takes two thirds of the time it takes in (N, C, H, W).
    images = images.contiguous(memory_format=torch.channels_last)
    teacher = {name: tensor.clone() for name, tensor in tensors.items()}
    fixed = ".running_", ".gate.gate."  # statistics, and the slimming head, which stage II trains
    trained = [t.requires_grad_() for name, t in tensors.items() if not any(part in name for part in fixed)]
    groups = [
        {"params": [t for t in trained if t.dim() > 1], "weight_decay": 1e-4},
        {"params": [t for t in trained if t.dim() == 1], "weight_decay": 0},
    ]
    state.update(
        student=Supernet(spec, tensors),
        teacher=Supernet(spec, teacher),
        optimiser=torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True, foreach=True),
        pairs=([t.detach() for t in teacher.values()], [t.detach() for t in tensors.values()]),
        images=images,
        labels=torch.arange(batch) % spec["classes"],
        top=max(len(stage["widths"]) for stage in spec["stages"]) - 1,
        dropout=request["dropout"],
    )
    return {}


def full(_widths):
    student, images, top = state["student"], state["images"], state["top"]
    state["optimiser"].zero_grad(set_to_none=True)
    features = student.walk(student.head, images, None, top, True)
    logits, _ = student.walk(student.tail, *features, top, True, dropout=state["dropout"])
    loss = F.cross_entropy(logits, state["labels"], label_smoothing=0.1)
    loss.backward()
    state["optimiser"].step()
    return {"largest": loss.item()}


def sandwich(widths):
    student, teacher, images, top = (state[name] for name in ("student", "teacher", "images", "top"))
    with torch.no_grad():
        features = teacher.walk(teacher.head, images, None, top, False)
        targets = teacher.walk(teacher.tail, *features, top, False)[0].softmax(1)
    state["optimiser"].zero_grad(set_to_none=True)
    passes = [("largest", top), *(("random", width) for width in widths), ("smallest", 0)]
    losses = {"largest": 0.0, "random": 0.0, "smallest": 0.0}
    # What lies before the gate is the same in every pass and runs once, as in dsnet; its statistics move as if it ran in each.
    features = student.walk(student.head, images, None, top, True, 1 - (1 - MOMENTUM) ** len(passes))
    joint = [x.detach().requires_grad_() for x in features]
    for name, slot in passes:
        dropout = state["dropout"] if name == "largest" else 0.0
        logits, _ = student.walk(student.tail, *joint, slot, True, dropout=dropout)
        if name == "largest":
            loss = F.cross_entropy(logits, state["labels"], label_smoothing=0.1)
        else:
            loss = F.cross_entropy(logits, targets)
        loss.backward()
        losses[name] += loss.item()
    torch.autograd.backward(features, [x.grad for x in joint])
    state["optimiser"].step()
    averages, weights = state["pairs"]
    torch._foreach_mul_(averages, 0.997)
    torch._foreach_add_(averages, weights, alpha=0.003)
    losses["random"] /= len(widths)
    return losses


def run(request):
    step, ms, losses = {"full": full, "sandwich": sandwich}[request["task"]], [], []
    for _ in range(request["n"]):
        start = time.perf_counter()
        losses.append(step(request["widths"]))
        ms.append((time.perf_counter() - start) * 1000)
    return {"ms": ms, "losses": losses}


torch.set_num_threads(int(sys.argv[1]))
answer({"load": load, "run": run})
