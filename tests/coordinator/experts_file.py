"""Safetensors files and experts for tests, in numpy alone."""
import json
import struct
from pathlib import Path

import numpy as np

TYPES = {"F32": np.float32, "BF16": np.uint16, "F16": np.float16}


def read_raw(path):
    """(metadata, {name: (dtype, shape, bytes)})"""
    data = Path(path).read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    return metadata, {name: (one["dtype"], one["shape"],
                             data[8 + length + one["data_offsets"][0]:8 + length + one["data_offsets"][1]])
                      for name, one in header.items()}


def as_numbers(dtype, shape, data):
    """float64"""
    values = np.frombuffer(data, TYPES[dtype])
    if dtype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64).reshape(shape)


def read_folder(folder):
    """All tensors of a model folder, as read_raw has them."""
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        tensors.update(read_raw(path)[1])
    return tensors


def weights_of(folder):
    return {name: as_numbers(*one) for name, one in read_folder(folder).items()}


def write_raw(path, tensors, metadata):
    """tensors: {name: (dtype, shape, bytes)}"""
    header, body = {"__metadata__": metadata}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def write_expert(path, z, **metadata):
    write_raw(path, {name: ("F32", [len(one)], one.astype("<f4").tobytes()) for name, one in sorted(z.items())},
              {"format": "svfleet-expert", "version": "1", **metadata})
    return path


def read_expert(path):
    metadata, tensors = read_raw(path)
    return {name: as_numbers(*one) for name, one in tensors.items()}, metadata


def linears(weights):
    return sorted(name for name, one in weights.items() if "layers" in name and one.ndim == 2)


def random_z(weights, seed, size=0.1, moved=None, names=None):
    """A z for all linears: `moved` of each matrix's entries differ from 1 (None: all)."""
    random, z = np.random.default_rng(seed), {}
    for name in names or linears(weights):
        r = min(weights[name].shape)
        one = 1 + size * random.standard_normal(r)
        if moved is not None:
            one[random.permutation(r)[moved:]] = 1
        z[name] = one.astype(np.float32)
    return z


def change_of(weight, z):
    """What z adds to a weight, by LAPACK's singular values and vectors, float64."""
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    return (u * (s * (z.astype(np.float64) - 1))) @ v
