"""svfleet's keyed rounding to bfloat16: a sum goes up or down by chance in proportion to what lies
between two numbers, so that small changes arrive on average, and always the same way for one expert."""
import numpy as np
import torch

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def scramble(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def mix(key, value):
    """Of 64-bit numbers, or arrays of them."""
    with np.errstate(over="ignore"):
        key, value = np.asarray(key, np.uint64), np.asarray(value, np.uint64)
        return scramble(scramble(key + GOLDEN) + (value + np.uint64(1)) * GOLDEN)


def random_bits(key, place, rows, columns):
    """16 bits for each entry of matrix number `place`, as int32 [rows, columns]."""
    row_keys = mix(mix(key, place), np.arange(rows))
    words = mix(row_keys[:, None], np.arange((columns + 3) // 4)[None, :])
    bits = np.ascontiguousarray(words).view("<u2")[:, :columns]
    return torch.from_numpy(bits.astype(np.int32))


def add_keyed(weight, change, bits):
    """bfloat16 [m, n] + float32 [m, n], rounded by these bits; what does not change stays as it is."""
    wide = (weight.float() + change).view(torch.int32) + bits
    return (wide & -65536).view(torch.float32).to(torch.bfloat16)
