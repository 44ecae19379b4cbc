"""svfleet's content hashes: XXH3-128 over length-prefixed texts and little-endian numbers."""
import struct

import numpy as np
import xxhash


class Hasher:
    def __init__(self):
        self._state = xxhash.xxh3_128()

    def raw(self, data):
        self._state.update(data)
        return self

    def text(self, value):
        data = value.encode()
        return self.raw(struct.pack("<q", len(data))).raw(data)

    def floats(self, values):
        values = np.ascontiguousarray(values, dtype="<f4")
        return self.raw(struct.pack("<q", values.size)).raw(values.tobytes())

    def hex(self):
        return self._state.hexdigest()


def in_order(names):
    """As svfleet sorts them: by bytes."""
    return sorted(names, key=str.encode)


def z_hash(z):
    """Of {weight name: vector}."""
    hasher = Hasher().text("svfleet-z-1")
    for name in in_order(z):
        hasher.text(name).floats(z[name])
    return hasher.hex()


def factors_hash(hashes):
    """Of {weight name: hash of its factor}."""
    hasher = Hasher()
    for name in in_order(hashes):
        hasher.text(name).text(hashes[name])
    return hasher.hex()
