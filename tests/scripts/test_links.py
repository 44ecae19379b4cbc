"""Every relative link of every page leads to a file, and to a heading where it names one."""
import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]
    return [p for p in ROOT.rglob("*.md") if not {".venv", "models", "build"} & set(p.relative_to(ROOT).parts)]


def prose(text):
    """The text without code, in which brackets mean something else."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    text = re.sub(r"^    .*$", "", text, flags=re.M)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken(page, text):
    for target in LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(path):
            yield f"{target}: no such heading"


class Links(unittest.TestCase):
    def test_all_pages(self):
        self.assertGreater(len(pages()), 5)
        for page in pages():
            with self.subTest(page.relative_to(ROOT).as_posix()):
                self.assertEqual(list(broken(page, page.read_text(encoding="utf-8"))), [])

    def test_control_that_must_fail(self):
        text = "[a](README.md) [b](no/such.md) [c](README.md#no-such) [d](https://x.org) `[e](f)`\n\n    [g](h)\n"
        self.assertEqual(list(broken(ROOT / "x.md", text)),
                         ["no/such.md: no such file", "README.md#no-such: no such heading"])


if __name__ == "__main__":
    unittest.main()
