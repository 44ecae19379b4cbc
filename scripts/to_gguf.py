#!/usr/bin/env python3
"""Puts the weights of a Hugging Face folder into a copy of its base model's GGUF file, matrices in
bfloat16: for a merged expert (svfleet export --format merged) in llama.cpp and what is built on it.
Needs numpy and gguf only.

  scripts/to_gguf.py BASE.gguf FOLDER OUT.gguf

Everything but the weights, tokenizer and settings included, is BASE.gguf's, a file of a
Llama-architecture model. OUT.gguf appears under its name only when it is complete.
"""
import json
import struct
import sys
from pathlib import Path

# First: it looks for a python that has the others.
from convert_gguf import hugging_face_name, sync

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, quantize

OWN = ("general.architecture", "general.file_type")
TYPES = {"F32": np.float32, "BF16": np.uint16, "F16": np.float16}


def read_tensors(folder):
    """{name: float32 array} of all safetensors files."""
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with open(path, "rb") as file:
            length, = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        body = np.memmap(path, np.uint8, "r", 8 + length)
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            values = body[begin:end].view(TYPES[entry["dtype"]])
            if entry["dtype"] == "BF16":
                values = (values.astype(np.uint32) << 16).view(np.float32)
            tensors[name] = values.astype(np.float32).reshape(entry["shape"])
    return tensors


def rotary_pairs(weight, heads):
    """convert_gguf.rotary_halves the other way round."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.transpose(0, 2, 1, 3).reshape(rows, columns))


def convert(base, folder, out):
    reader = GGUFReader(base)
    fields = reader.fields
    architecture = fields["general.architecture"].contents()
    if architecture != "llama":
        sys.exit(f"to_gguf: {base} has architecture '{architecture}'; only llama is supported")
    heads = {"attn_q": fields["llama.attention.head_count"].contents(),
             "attn_k": fields["llama.attention.head_count_kv"].contents()}
    weights = read_tensors(folder)
    writer = GGUFWriter(out, architecture)
    writer.add_file_type(LlamaFileType.MOSTLY_BF16)
    for name, field in fields.items():
        if name not in OWN and not name.startswith("GGUF."):
            of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=of)
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":  # made of config.json's rope_scaling (Llama 3.1), and no weight
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        name, shape = hugging_face_name(tensor.name), [int(n) for n in reversed(tensor.shape)]
        if name not in weights or list(weights[name].shape) != shape:
            sys.exit(f"to_gguf: '{folder}' has no tensor '{name}' of shape {shape}: it is of another model than "
                     f"{base}")
        weight = weights[name]
        for kind, count in heads.items():
            if f".{kind}." in tensor.name:
                weight = rotary_pairs(weight, count)
        if weight.ndim == 1:
            writer.add_tensor(tensor.name, weight)
        else:
            writer.add_tensor(tensor.name, quantize(weight, GGMLQuantizationType.BF16),
                              raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    if len(sys.argv) != 4 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out = Path(sys.argv[3])
    if out.exists():
        sys.exit(f"to_gguf: {out} exists; remove it first")
    temporary = out.with_name(f".{out.name}.part")
    try:
        convert(sys.argv[1], sys.argv[2], temporary)
        sync(temporary)
        temporary.rename(out)
        sync(out.parent)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
