"""Bits flipped in the memory of a running process, as bad memory does it: through /proc/PID/mem, at
the places that hold what is known to be there. Whoever does it must be allowed to trace the process."""
import json
import re
from pathlib import Path

BIT = 0x01  # of a number's last byte: of its exponent, so that no rounding hides it
SAMPLE = 96  # bytes of a tensor, in which it is looked for
WINDOW = 32  # as many of them stand together in a packed copy, which is cut into panels


def along_both(raw, at, item, row):
    """From `at` on, along a row of a matrix and along a column: packed, either may stand together. `item`, `row`: bytes
    of a number and of a row."""
    return [raw[at:at + SAMPLE], b"".join(raw[at + i * row:at + i * row + item] for i in range(SAMPLE // item))]


def entry_of(model, name):
    """(bytes of its file, first and last byte of the tensor, shape) in a folder of safetensors."""
    for path in Path(model).glob("*.safetensors"):
        raw = path.read_bytes()
        start = 8 + int.from_bytes(raw[:8], "little")
        entry = json.loads(raw[8:start]).get(name)
        if entry:
            begin, end = (start + offset for offset in entry["data_offsets"])
            return raw, begin, end, entry["shape"]
    raise KeyError(name)


def tensor_bytes(model, name):
    """Some bytes from the middle of a tensor, stored in the model's own type, along a row and along a column."""
    raw, begin, end, (rows, columns) = entry_of(model, name)
    item = (end - begin) // (rows * columns)
    return along_both(raw, begin + (end - begin) // 2 // 8 * 8, item, columns * item)


def basis_bytes(model, store, name):
    """The same of Q of a factor, float32: its file is mostly Q, so its middle is."""
    raw = (Path(store) / f"{name}.h5").read_bytes()
    return along_both(raw, len(raw) // 2 // 8 * 8, 4, 4 * min(entry_of(model, name)[3]))


def read(memory, at, end):
    parts = []
    memory.seek(at)
    while at < end and (part := memory.read(end - at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def places_of(pid, content):
    """Where the process's own memory (no file behind it) holds `content`."""
    places = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            first, last, mode, name = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+\s*(.*)", line).groups()
            if not mode.startswith("rw") or (name and name != "[heap]"):
                continue
            first = int(first, 16)
            try:
                data = read(memory, first, int(last, 16))
            except OSError:  # a guard page
                continue
            found = data.find(content)
            while found >= 0:
                places.append(first + found)
                found = data.find(content, found + 1)
    return places


def flip(pid, contents):
    """One bit of each copy of one of `contents`, or of WINDOW bytes of it; how many there were. Memory that was given
    up may still hold one, too."""
    flipped = []
    for window in (content[start:start + WINDOW] for content in contents
                   for start in range(0, len(content) - WINDOW + 1, 4)):
        for place in places_of(pid, window):
            if any(abs(place - other) < SAMPLE for other in flipped):
                continue
            with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
                memory.seek(place + 3)
                memory.write(bytes([window[3] ^ BIT]))
            flipped.append(place)
    return len(flipped)
