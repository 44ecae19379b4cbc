#!/usr/bin/env python3
"""Writes the safetensors files of tests/data/formats/ that come from the Python library.

Usage: make_format_fixtures.py FOLDER   (needs numpy, torch and safetensors)
The values are simple enough to be written down again in tests/checkpoints/safetensors_test.cc.
"""
import json
import os
import sys

import numpy as np
import safetensors.torch
import torch
from safetensors.numpy import save_file


def main(folder):
    path = lambda *parts: os.path.join(folder, *parts)
    save_file({"a.weight": np.array([[1.5, -2, 0.25], [3, 4, 5]], np.float32),
               "b": np.array([0.1, -0.2], np.float64),
               "half": np.array([1, -0.5, 65504], np.float16),
               "none": np.zeros((0, 3), np.float32),
               "scalar": np.array(7, np.float32)},
              path("python.safetensors"), metadata={"made": "by Python", "text": 'a "quote" and é'})
    safetensors.torch.save_file(
        {"x": torch.tensor([[1, -2], [0.5, 3.140625]], dtype=torch.bfloat16)},
        path("python_bf16.safetensors"))
    save_file({"good": np.array([1], np.float32), "ids": np.array([1, 2], np.int64)},
              path("python_int64.safetensors"))

    os.makedirs(path("python_sharded"), exist_ok=True)
    shards = {"model-00001-of-00002.safetensors": {"one": np.array([1, 2], np.float32),
                                                   "two": np.array([3], np.float32)},
              "model-00002-of-00002.safetensors": {"three": np.array([[4, 5]], np.float32)}}
    index = {"metadata": {"total_size": 20}, "weight_map": {}}
    for file, tensors in shards.items():
        save_file(tensors, path("python_sharded", file))
        index["weight_map"].update({name: file for name in tensors})
    with open(path("python_sharded", "model.safetensors.index.json"), "w") as out:
        json.dump(index, out, indent=1)
        out.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
