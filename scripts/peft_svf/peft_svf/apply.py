"""Experts put in force in a model, and taken out again."""
import torch

from .expert import ExpertError, read_expert
from .rounding import add_keyed, random_bits
from .store import read_factors


class Handle:
    """What undoes it; also a context manager."""

    def __init__(self, expert, undo):
        self.expert, self._undo = expert, undo

    def remove(self):
        """The model as it was, bit for bit. A second call does nothing."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


def linear_of(model, name):
    """The layer with this weight; below peft's adapter where it has one."""
    wanted = name.removesuffix(".weight")
    for path, module in model.named_modules():
        if path == wanted or path.endswith("." + wanted):
            module = getattr(module, "base_layer", module)
            return getattr(module, "linear", module)
    raise ExpertError(f"the model has no layer '{wanted}', which the expert adapts; use the base model that it "
                      "was trained on")


def check_shape(layer, factor):
    found = (layer.out_features, layer.in_features)
    if found != factor.shape:
        raise ExpertError(f"'{factor.name}' is {found[0]} x {found[1]} in this model, and {factor.shape[0]} x "
                          f"{factor.shape[1]} where the expert was trained; use the base model that it was "
                          "trained on")


def core(factor, z, dtype):
    """Q diag(z-1) Q^T as svfleet makes it for weights of this type."""
    q = factor.q.to(dtype)
    scaled = (q.float() * (torch.from_numpy(z) - 1)).to(dtype)
    return (scaled.float() @ q.float().T).to(dtype).float()


def change_of(factor, z, weight):
    """What z adds to a weight, float32."""
    c, w = core(factor, z, weight.dtype), weight.float()
    return w @ c if factor.form == "right" else c @ w


def merge(layer, factor, z, expert):
    """Puts W' in place of W; returns what puts W back."""
    weight = layer.weight
    if weight.dtype not in (torch.float32, torch.bfloat16):
        raise ExpertError(f"'{factor.name}' is {weight.dtype} here; load the model in bfloat16 or float32, or "
                          "use form=\"activation\"")
    before = weight.data
    on_host = before.cpu()
    change = change_of(factor, z, on_host)
    if weight.dtype == torch.float32:
        after = on_host + change
    else:
        key = expert.key()
        if key is None:
            raise ExpertError("the expert leaves out matrices of its own kinds and layers, so that svfleet's "
                              "rounding cannot be made again; use form=\"activation\", or export --format merged")
        after = add_keyed(on_host, change, random_bits(key, expert.place(factor.name), *factor.shape))
    weight.data = after.to(before.device)

    def undo():
        weight.data = before

    return undo


def hook(layer, factor, z):
    """Adds the change to the layer's input or output; returns what takes it away."""
    moved = torch.from_numpy(z != 1)
    q = factor.q.float()[:, moved].contiguous()
    d = (torch.from_numpy(z) - 1)[moved]
    on_device = {}

    def change(x):
        if x.device not in on_device:
            on_device[x.device] = q.to(x.device), d.to(x.device)
        basis, move = on_device[x.device]
        return (x.float() @ basis * move) @ basis.T

    def before(_, inputs):
        x, *more = inputs
        return ((x.float() + change(x)).to(x.dtype), *more)

    def after(_, __, y):
        wide = y.float()
        product = wide if layer.bias is None else wide - layer.bias.float()
        return (wide + change(product)).to(y.dtype)

    if factor.form == "right":
        return layer.register_forward_pre_hook(before).remove
    return layer.register_forward_hook(after).remove


def load_expert(model, expert_path, store_path, form="merged"):
    """Puts the expert in force in a transformers (or peft) model of the Llama family; returns a Handle.

    expert_path: an expert file, or a folder of `svfleet export --format native`; store_path: the factor
    store that it was trained on. form: "merged" changes the weights, "activation" adds the change by
    hooks. Raises ExpertError where expert, store and model do not belong together; the model is then as
    it was."""
    if form not in ("merged", "activation"):
        raise ExpertError(f"form is '{form}'; use merged or activation")
    expert = read_expert(expert_path)
    factors = read_factors(store_path, expert)
    layers = {name: linear_of(model, name) for name in expert.z}
    for name, layer in layers.items():
        check_shape(layer, factors[name])
    handle = Handle(expert, [])
    try:
        with torch.no_grad():
            for name, z in expert.z.items():
                if (z == 1).all():
                    continue
                undo = (merge(layers[name], factors[name], z, expert) if form == "merged"
                        else hook(layers[name], factors[name], z))
                handle._undo.append(undo)
    except BaseException:
        handle.remove()
        raise
    return handle
