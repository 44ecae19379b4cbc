"""The records in RUN/chunks, as docs/formats.md describes them: for scripts and tests that look at a run
while it computes. Checksums are not looked at."""
import re
import struct
from pathlib import Path

MAGIC = b"\x93svfj\r\n\x1a"
# magic, version, kind, length, step, chunk, run_id, z_hash, token, hash, header hash
HEADER = struct.Struct("<8sIIQqq32s32s32sQQ")
CHUNK, REPLY = 1, 2


class Record:
    def __init__(self, path, at, fields):
        self.path, self.at = path, at
        (_, _, self.kind, self.length, self.step, chunk, *_) = fields
        self.chunk, self.expert = chunk & ((1 << 48) - 1), chunk >> 48
        self.payload = at + HEADER.size
        self.end = self.payload + self.length

    def __repr__(self):
        return f"step {self.step} chunk {self.chunk}"


def records_of(path):
    """Those of one file, up to the first that is not whole."""
    found, at = [], 0
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            while at + HEADER.size <= size:
                file.seek(at)
                fields = HEADER.unpack(file.read(HEADER.size))
                record = Record(Path(path), at, fields)
                if fields[0] != MAGIC or record.end > size:
                    break
                found.append(record)
                at = record.end
    except (FileNotFoundError, struct.error):  # cleared meanwhile
        pass
    return found


def chunks(run_dir, from_step=0):
    """Finished ones of steps from `from_step` on, by step, expert and number, each once."""
    found = {}
    for path in sorted((Path(run_dir) / "chunks").glob("step-*.journal")):
        for record in records_of(path):
            if record.kind == CHUNK and record.step >= from_step:
                found.setdefault((record.step, record.expert, record.chunk), record)
    return [found[key] for key in sorted(found)]


def newest_step(run_dir):
    """Of its checkpoints; None before the first."""
    steps = [int(re.match(r"step-(\d+)", path.name).group(1))
             for path in (Path(run_dir) / "checkpoints").glob("step-*[0-9].h5")]
    return max(steps, default=None)


def unfinished(run_dir):
    """Finished chunks of the step after the newest checkpoint."""
    step = newest_step(run_dir)
    return [] if step is None else [chunk for chunk in chunks(run_dir, step) if chunk.step == step]
