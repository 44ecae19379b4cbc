"""The program holds no folder of the machine that built it, and starts where it was moved to."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SVFLEET = Path(os.environ.get("SVFLEET", ROOT / "build" / "svfleet"))


class Build(unittest.TestCase):
    def test_it_names_no_folder_of_its_own(self):
        program = SVFLEET.read_bytes()
        for folder in {ROOT, ROOT.resolve(), SVFLEET.parent, (ROOT / ".venv").resolve()}:
            found = re.search(re.escape(os.fsencode(folder)) + rb"[^\0]*", program)
            self.assertIsNone(found, found and found.group(0))
        listed = subprocess.run(["readelf", "-d", SVFLEET], capture_output=True, text=True, check=True).stdout
        runpath = re.search(r"R(?:UN)?PATH.*\[(.*)\]", listed).group(1)
        self.assertIn("$ORIGIN/lib", runpath.split(":"))

    def test_a_moved_clone_starts(self):
        """A clone's build/ and .venv, of which only the way from one to the other counts."""
        with tempfile.TemporaryDirectory() as name:
            clone = Path(name, "clone")
            (clone / "build").mkdir(parents=True)
            shutil.copy2(SVFLEET, clone / "build")
            for link in ("lib", "nvidia"):
                to = os.readlink(SVFLEET.parent / link)
                self.assertFalse(os.path.isabs(to), to)
                shutil.copy(SVFLEET.parent / link, clone / "build" / link, follow_symlinks=False)
            (clone / ".venv").symlink_to((ROOT / ".venv").resolve())
            environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
            start = lambda where: subprocess.run([where / "build" / "svfleet", "--version"], text=True,
                                                 capture_output=True, env=environment)
            self.assertEqual(start(clone).returncode, 0, start(clone).stderr)
            moved = clone.rename(Path(name, "moved"))
            self.assertEqual(start(moved).returncode, 0, start(moved).stderr)
            (moved / ".venv").unlink()
            done = start(moved)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (127, 1), done.stderr)
            self.assertIn(".so", done.stderr)


if __name__ == "__main__":
    unittest.main()
