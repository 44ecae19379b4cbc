"""How wrong W' is, formed in float64 from a stored Q and from a float32 SVD, against the one of a
float64 SVD: verify_decompose.py FILE Q.safetensors NAME...

z is a smooth function of sigma, so that W' does not depend on the basis of near-equal ones."""
import json
import sys

import torch
from safetensors import safe_open


def scaled(sigma, largest):
    return 1 + 0.1 * torch.sin(10 * sigma / largest)


found = []
torch.set_num_threads(2)
with safe_open(sys.argv[1], "pt") as file, safe_open(sys.argv[2], "pt") as bases:
    for name in sys.argv[3:]:
        narrow, q = file.get_tensor(name).float(), bases.get_tensor(name).double()
        w = narrow.double()
        u, s, vt = torch.linalg.svd(w, full_matrices=False)
        z = scaled(s, s[0])
        exact = (u * (s * z)) @ vt
        change = (q * (z - 1)) @ q.T
        ours = w + (w @ change if w.shape[0] >= w.shape[1] else change @ w)
        u32, s32, vt32 = (x.double() for x in torch.linalg.svd(narrow, full_matrices=False))
        theirs = (u32 * (s32 * z)) @ vt32
        found.append({"name": name, "ours": float((ours - exact).norm() / exact.norm()),
                      "svd": float((theirs - exact).norm() / exact.norm())})
print(json.dumps({"errors": found}))
