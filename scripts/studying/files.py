"""Files that the study makes itself: random pools, uniform mixtures, copies of a model with noise."""
import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np

KEEP = ("model_hash", "store_hash", "tokenizer_hash", "config_hash")  # of an expert, for what is made of it


def read_tensors(path):
    """(metadata, {name: (dtype, shape, bytes)}) of a safetensors file."""
    data = Path(path).read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    metadata, body = header.pop("__metadata__", {}), data[8 + length:]
    return metadata, {name: (one["dtype"], one["shape"], body[slice(*one["data_offsets"])]) for name, one in header.items()}


def write_tensors(path, tensors, metadata):
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(one[2] for one in tensors.values()))


def read_z(path):
    """({matrix: z, float64}, metadata) of an expert of version 1."""
    metadata, tensors = read_tensors(path)
    return {name: np.frombuffer(data, "<f4").astype(np.float64) for name, (_, _, data) in tensors.items()}, metadata


def write_z(path, z, like):
    tensors = {name: ("F32", [len(one)], one.astype("<f4").tobytes()) for name, one in sorted(z.items())}
    kept = {key: like[key] for key in KEEP if key in like}
    write_tensors(path, tensors, {"format": "svfleet-expert", "version": "1", **kept})


def normals(count, *key):
    """Standard normal numbers that depend on the key alone: Philox's bits, by Box and Muller."""
    seed = int.from_bytes(hashlib.sha256("|".join(map(str, ("svfleet study", *key))).encode()).digest()[:16], "big")
    half = (count + 1) // 2
    bits = np.random.Philox(key=seed).random_raw(2 * half).reshape(2, half)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53  # strictly between 0 and 1
    radius, angle = np.sqrt(-2 * np.log(uniform[0])), 2 * np.pi * uniform[1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def write_random(path, expert, *key):
    """An expert whose move z - 1 has in each matrix the norm of `expert`'s, in a random direction."""
    z, metadata = read_z(expert)
    moved = {}
    for name, one in z.items():
        direction = normals(len(one), *key, name)
        moved[name] = 1 + direction * (np.linalg.norm(one - 1) / np.linalg.norm(direction))
    write_z(path, moved, metadata)


def write_uniform(path, experts):
    """Equal shares of all: z = 1 + mean of (z_k - 1)."""
    read = [read_z(expert) for expert in experts]
    write_z(path, {name: 1 + sum(z[name] - 1 for z, _ in read) / len(read) for name in read[0][0]}, read[0][1])


def as_numbers(dtype, data):
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


def as_bytes(dtype, values):
    values = values.astype(np.float32)
    if dtype != "BF16":
        return values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()  # to nearest, ties to even


def write_noisy_model(folder, model, noise):
    """A copy whose matrices of layers have `noise` times their root mean square added, normal and keyed."""
    folder.mkdir(parents=True)
    for file in sorted(Path(model).iterdir()):
        if file.suffix != ".safetensors":
            if file.is_file():
                shutil.copy(file, folder)
            continue
        metadata, tensors = read_tensors(file)
        for name, (dtype, shape, data) in tensors.items():
            if ".layers." in name and len(shape) == 2:
                w = as_numbers(dtype, data)
                rms = np.sqrt(np.mean(w.astype(np.float64) ** 2))
                tensors[name] = dtype, shape, as_bytes(dtype, w + noise * rms * normals(len(w), "noise", noise, name))
        write_tensors(folder / file.name, tensors, metadata)


def change_of(expert, model):
    """|W' - W| / |W| over all matrices that a diagonal expert names, Frobenius; z in descending order of sigma."""
    z, _ = read_z(expert)
    moved = whole = 0.0
    for file in sorted(Path(model).glob("*.safetensors")):
        for name, (dtype, shape, data) in read_tensors(file)[1].items():
            if name in z:
                sigma = np.linalg.svd(as_numbers(dtype, data).reshape(shape), compute_uv=False).astype(np.float64)
                moved, whole = moved + np.sum((sigma * (z[name] - 1)) ** 2), whole + np.sum(sigma**2)
    return float(np.sqrt(moved / whole))
