"""Every include goes the way that docs/rooms.txt says, and everything that it says is so."""
import re
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
LIBTORCH = ("ATen/", "c10/", "torch/")
ELSEWHERE = {"tests", "cmake", "docs", "examples", "scripts", "models"}


def sources(root):
    """Paths from the root, of all rooms."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix in (".cc", ".h", ".cu", ".cuh", ".inc") and parts[0] not in ELSEWHERE:
            if not parts[0].startswith((".", "build", "runs")):
                yield "/".join(parts)


def rooms_of(root):
    """By name, in order: (line, the names that it may use)."""
    rooms = {}
    for number, line in enumerate((root / "docs/rooms.txt").read_text().splitlines(), 1):
        if line and not line.startswith("#"):
            name, _, uses = line.partition(":")
            rooms[name] = (number, uses.split())
    return rooms


def problems(root):
    """(problems, number of includes that were looked at)"""
    found, rooms, used = [], rooms_of(root), {}
    for place, (name, (number, uses)) in enumerate(rooms.items()):
        for other in uses:
            if other != "libtorch" and other not in list(rooms)[:place]:
                found.append(f"docs/rooms.txt:{number}: {name} uses {other}, which does not stand above it")
    files = {file: [] for file in sources(root)}
    looked_at = 0
    for file, includes in files.items():
        room = file.rpartition("/")[0]
        if room not in rooms:
            found.append(f"{file}: its folder is no room of docs/rooms.txt")
            continue
        for number, line in enumerate((root / file).read_text().splitlines(), 1):
            include = INCLUDE.match(line)
            if not include:
                continue
            looked_at += 1
            name = include[1] or include[2]
            includes.append((number, name))
            other = name.rpartition("/")[0]
            if name in files and other != room:
                used.setdefault(room, set()).add(other)
                if other not in rooms[room][1]:
                    found.append(f"{file}:{number}: {room} may not use {other} ({name})")
            if include[1] and name not in files and not name.startswith(("cluster/job_sh.h", *LIBTORCH)):
                found.append(f"{file}:{number}: no room has {name}")

    def reaches_libtorch(file, seen):
        for _, name in files.get(file, []):
            if name.startswith(LIBTORCH):
                return True
            if name in files and name not in seen:
                seen.add(name)
                if reaches_libtorch(name, seen):
                    return True
        return False

    for file, includes in files.items():
        room = file.rpartition("/")[0]
        if room not in rooms or "libtorch" in rooms[room][1]:
            continue
        for number, name in includes:
            if name.startswith(LIBTORCH) or name in files and reaches_libtorch(name, {file, name}):
                found.append(f"{file}:{number}: {room} may not use libtorch ({name})")
    for room, (number, uses) in rooms.items():
        for other in uses:
            if other != "libtorch" and other not in used.get(room, set()):
                found.append(f"docs/rooms.txt:{number}: {room} no longer uses {other}")
    return found, looked_at


class Rooms(unittest.TestCase):
    def test_every_include_goes_the_way_it_should(self):
        found, looked_at = problems(ROOT)
        self.assertEqual(found, [])
        self.assertGreater(looked_at, 1000)

    def test_each_file_says_its_subject(self):
        """In the first line of each header, and of each source file without one; no two alike."""
        files, said = set(sources(ROOT)), {}
        for file in files:
            if file.endswith(".h") or file.removesuffix(".cc") + ".h" not in files:
                line = (ROOT / file).read_text().split("\n")[0]
                self.assertTrue(line.startswith("// "), f"{file}: {line}")
                self.assertNotIn(line, said, f"{file} and {said.get(line)} have the same subject")
                said[line] = file
        self.assertGreater(len(said), 150)

    def test_what_is_wrong_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for file in (*sources(ROOT), "docs/rooms.txt"):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, root / file)

            def planted(file, line, instead=""):
                path = root / file
                before = path.read_text()
                path.write_text(before.replace(instead, line) if instead else line + "\n" + before)
                found = problems(root)[0]
                path.write_text(before)
                return found

            self.assertEqual(problems(root)[0], [])
            self.assertIn("svd/target.h:1: svd may not use worker/model (worker/model/decoder.h)",
                          planted("svd/target.h", '#include "worker/model/decoder.h"'))
            self.assertIn("coordinator/run/log.cc:1: coordinator/run may not use coordinator/training "
                          "(coordinator/training/loop.h)",
                          planted("coordinator/run/log.cc", '#include "coordinator/training/loop.h"'))
            # By way of a header that it may include.
            found = planted("coordinator/config/config.h", "#include <ATen/core/Tensor.h>")
            self.assertTrue(any(line.startswith("coordinator/run/") and "libtorch" in line for line in found), found)
            self.assertIn("comm/error.h:1: no room has comm/errors.h",
                          planted("comm/error.h", '#include "comm/errors.h"'))
            found = planted("docs/rooms.txt", "\ncomm: checkpoints\n", instead="\ncomm:\n")
            self.assertTrue(any("comm uses checkpoints, which does not stand" in line for line in found), found)
            found = planted("docs/rooms.txt", "\ncheckpoints: comm\n", instead="\ncheckpoints: comm\n")
            self.assertEqual(found, [], "control: nothing planted, nothing found")
            found = planted("docs/rooms.txt", "\nrl: checkpoints svd comm\n", instead="\nrl: checkpoints comm\n")
            self.assertTrue(any("rl no longer uses svd" in line for line in found), found)


if __name__ == "__main__":
    sys.exit(unittest.main())
