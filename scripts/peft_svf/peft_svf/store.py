"""Factors of a store that `svfleet decompose` made: the basis Q of a weight and its singular values."""
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from .expert import ExpertError
from .hashes import Hasher, factors_hash


@dataclass
class Factor:
    name: str
    form: str  # right: W' = W + W Q diag(z-1) Q^T; left: W + Q diag(z-1) Q^T W
    shape: tuple  # of the weight, [out, in]
    q: torch.Tensor  # [n, r], n being the input side (right) or the output side (left); float32 or bfloat16, as stored
    sigma: np.ndarray  # float64 [r], descending

    def hash(self):
        bfloat16 = self.q.dtype == torch.bfloat16
        raw = self.q.view(torch.int16).numpy() if bfloat16 else self.q.numpy()
        hasher = Hasher().text(self.form).text("bfloat16" if bfloat16 else "float32")
        return hasher.raw(raw.tobytes()).raw(self.sigma.tobytes()).hex()


def text_of(file, name):
    value = file[name][()]
    if isinstance(value, np.ndarray):
        value = value.tobytes()
    return value.decode() if isinstance(value, bytes) else str(value)


def read_factor(store, name):
    path = Path(store) / f"{name}.h5"
    if not path.is_file():
        raise ExpertError(f"the factor of '{name}' is missing in '{store}'; run svfleet decompose for "
                          "svd.targets and svd.layers that have it")
    with h5py.File(path, "r", locking=False) as file:
        if text_of(file, "format") != "svfleet-factor" or int(file["version"][()]) > 2:
            raise ExpertError(f"'{path}' is not a factor of version 1 or 2; use a newer peft_svf")
        q = file["Q"][()]
        q = torch.from_numpy(q.view(np.int16)).view(torch.bfloat16) if q.dtype == np.uint16 else torch.from_numpy(q)
        return Factor(name, text_of(file, "form"), (int(file["rows"][()]), int(file["cols"][()])), q,
                      file["sigma"][()])


def read_factors(store, expert):
    """Those of the expert's weights; refused where they are not what it was trained on."""
    factors = {name: read_factor(store, name) for name in expert.z}
    for name, factor in factors.items():
        if len(expert.z[name]) != len(factor.sigma):
            raise ExpertError(f"z of '{name}' has {len(expert.z[name])} entries, its factor in '{store}' needs "
                              f"{len(factor.sigma)}")
    wanted = expert.metadata.get("store_hash")
    found = factors_hash({name: factor.hash() for name, factor in factors.items()})
    if wanted and wanted != found:
        raise ExpertError(f"the expert was trained on factor store {wanted}, and '{store}' is {found}; use the "
                          "store that it was trained on, or carry it over with svfleet rebase")
    return factors
