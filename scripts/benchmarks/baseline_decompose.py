"""Decompositions in libtorch of the matrices of a safetensors file:
baseline_decompose.py FILE ONLY svd|eigh THREADS RUNS

svd: torch.linalg.svd in float32. eigh: the smaller Gram matrix and its eigenvectors in float64,
without any check. THREADS: a number inside one matrix after the other, or "beside": a matrix in each
of two threads of one."""
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from safetensors import safe_open

file_name, only, how, threads, runs = sys.argv[1:]
torch.set_num_threads(1 if threads == "beside" else int(threads))
with safe_open(file_name, "pt") as file:
    matrices = [file.get_tensor(name) for name in sorted(file.keys()) if only in name]
matrices = [m.float() for m in matrices if m.dim() == 2]


def decompose(matrix):
    if how == "svd":
        return torch.linalg.svd(matrix, full_matrices=False)
    wide = matrix.double()
    return torch.linalg.eigh(wide.T @ wide if wide.shape[0] >= wide.shape[1] else wide @ wide.T)


decompose(torch.ones(8, 8))  # what a library loads on its first use
found = []
for run in range(int(runs)):
    begin = time.monotonic()
    if threads == "beside":
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(decompose, matrices))
    else:
        for one in matrices:
            decompose(one)
    found.append({"seconds": time.monotonic() - begin})
print(json.dumps({"runs": found, "matrices": len(matrices)}))
