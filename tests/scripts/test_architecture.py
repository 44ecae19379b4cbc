"""Every function that docs/architecture.md names is where it says, and the path stays short."""
import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| [^|]+ \| `([^`]+)` \| (\S+) \|$", re.M)
MOST_LINES = 600  # of the path within coordinator/training


def body_of(text, name):
    """The lines of the function's definition; None where there is none."""
    head = r"[\w:<>,&* ]*[ &*]{}\((?:[^;{{}}]|\{{\}})*?\)(?: const)? \{{"
    found = re.search(rf"^{head.format(re.escape(name))}.*?^\}}", text, re.M | re.S)
    if not found:  # on one line, in its class
        short = name.rpartition("::")[2]
        found = re.search(rf"^  {head.format(re.escape(short))}.*\}}$", text, re.M)
    return found[0].split("\n") if found else None


class Architecture(unittest.TestCase):
    def setUp(self):
        self.page = (ROOT / "docs/architecture.md").read_text()
        self.rows = ROW.findall(self.page)

    def test_every_function_is_where_it_says(self):
        self.assertGreater(len(self.rows), 25)
        lines = {}
        for name, file in self.rows:
            body = body_of((ROOT / file).read_text(), name)
            self.assertIsNotNone(body, f"{file} does not define {name}")
            if file.startswith("coordinator/training/"):
                lines[name] = len(body)
        self.assertLessEqual(sum(lines.values()), MOST_LINES, lines)
        for name, count in lines.items():
            self.assertLessEqual(count, 80, name)

    def test_what_is_not_there_is_missed(self):
        text = (ROOT / "coordinator/training/chunks_of_step.cc").read_text()
        self.assertGreater(len(body_of(text, "ChunksOfStep::compute")), 20)
        self.assertIsNone(body_of(text, "ChunksOfStep::comput"))
        self.assertIsNone(body_of(text, "exact_sum"), "a call is no definition")

    def test_it_fits_on_two_screens(self):
        self.assertLessEqual(len(self.page.split("\n")), 100)


if __name__ == "__main__":
    sys.exit(unittest.main())
