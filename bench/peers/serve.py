"""What the workers in Python share: the protocol's loop (serve.mjs), and weights from a file."""

import json
import struct
import sys

import numpy as np
import torch


def read_safetensors(path):
    """Metadata, and tensors by name."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    metadata = header.pop("__metadata__")
    types = {"F32": np.float32, "I64": np.int64}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return metadata, tensors


def answer(requests):
    """Answers every line of stdin with the function that its `op` names."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = requests[request["op"]](request)
        except Exception as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)
