"""Expert files: one float32 vector z for each adapted weight, and where it came from."""
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open

from .hashes import z_hash

# The order in which svfleet counts the matrices of a layer.
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NAME = re.compile(r"model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.weight")


class ExpertError(ValueError):
    """An expert that cannot be used here; says why in one line."""


@dataclass
class Expert:
    z: dict  # weight name -> float32 [r]
    metadata: dict = field(default_factory=dict)

    def place(self, name):
        """The number of this weight among all that the expert's kinds and layers name: a part of
        the key by which svfleet rounds its W'."""
        layers, kinds = set(), set()
        for weight in self.z:
            layer, kind = NAME.fullmatch(weight).groups()
            layers.add(int(layer))
            kinds.add(kind)
        layer, kind = NAME.fullmatch(name).groups()
        kinds = [one for one in KINDS if one in kinds]
        return sorted(layers).index(int(layer)) * len(kinds) + kinds.index(kind)

    def key(self):
        """The first 64 bits of the hash of z as svfleet holds it, with matrices that the expert
        does not name, of its kinds and layers, at 1. Their sizes are not known here: only of an
        expert without such gaps."""
        layers = {NAME.fullmatch(name).group(1) for name in self.z}
        kinds = {NAME.fullmatch(name).group(2) for name in self.z}
        if len(layers) * len(kinds) != len(self.z):
            return None
        return int(z_hash(self.z)[:16], 16)


def read_expert(path):
    """Of a file, or of a folder that has an expert.safetensors."""
    path = Path(path)
    if path.is_dir():
        path = path / "expert.safetensors"
    if not path.is_file():
        raise ExpertError(f"there is no expert at '{path}'; check the path")
    with safe_open(path, "numpy") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != "svfleet-expert":
            raise ExpertError(f"'{path}' is not an expert: its metadata has no format=svfleet-expert")
        if metadata.get("version") != "1":
            raise ExpertError(f"the expert '{path}' has version '{metadata.get('version')}', this package "
                              "reads 1; use a newer peft_svf")
        z = {name: file.get_tensor(name) for name in file.keys()}
    for name, values in z.items():
        if values.ndim != 1 or values.dtype != np.float32 or not np.isfinite(values).all():
            raise ExpertError(f"the expert '{path}' cannot be used: z of '{name}' is not a vector of finite "
                              "float32 numbers")
        if not NAME.fullmatch(name):
            raise ExpertError(f"the expert '{path}' adapts '{name}', which is no matrix of a decoder layer")
    written = metadata.get("z_hash")
    if written and written != z_hash(z):
        raise ExpertError(f"the expert '{path}' is damaged: its z has the hash {z_hash(z)}, not {written}; "
                          "use a copy of it")
    return Expert(z, metadata)
