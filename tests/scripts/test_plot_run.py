"""scripts/plot_run on made-up runs: what it reads, and what it draws."""
import json
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
sys.dont_write_bytecode = True
import plot_run  # noqa: E402


def write_expert(path, z):
    header, body = {"__metadata__": {"format": "svfleet-expert"}}, b""
    for name, values in z.items():
        data = np.asarray(values, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def made_up_run(folder, steps=48, layers=30):
    random = np.random.default_rng(0)
    with open(folder / "log.jsonl", "w") as log:
        for step in range(steps):
            learnt = 1 - np.exp(-step / 10)
            entry = {"event": "step", "step": step, "reward": 2 * learnt - 1 + 0.1 * random.standard_normal(),
                     "accuracy": learnt, "ended_fraction": 0.8 + 0.2 * learnt, "signal_fraction": 0.5,
                     "kl": 3 * learnt, "gradient_norm": 1 + random.random(), "mean_tokens": 14 - 4 * learnt,
                     "tokens_per_s": 120 + 10 * random.random(), "attempt": 0,
                     "seconds": {"generate": 3.0, "gradient": 0.8, "reduce": 0.1, "merge": 0.4, "save": 0.02}}
            log.write(json.dumps(entry) + "\n")
            if step % 8 == 0:
                log.write(json.dumps({"event": "validation", "step": step, "accuracy": learnt}) + "\n")
    z = {f"model.layers.{i}.mlp.{kind}.weight": 1 + 0.03 * (i + 1) / layers * random.standard_normal(576)
         for kind in ("gate_proj", "up_proj", "down_proj") for i in range(layers)}
    write_expert(folder / "experts" / "final.safetensors", z)


def run(*arguments):
    return subprocess.run([SCRIPTS / "plot_run", *map(str, arguments)], capture_output=True, text=True)


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


class PlotRun(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def test_last_attempt_of_a_step_counts_and_a_torn_line_does_not(self):
        (self.folder / "log.jsonl").write_text(
            '{"event":"start"}\n{"event":"step","step":1,"reward":0.1}\n{"event":"step","step":0,"reward":9}\n'
            '{"event":"step","step":1,"reward":0.5}\n{"event":"validation","step":1,"accuracy":0.25}\n'
            '{"event":"step","step":2,"rew')
        steps, validations = plot_run.read_log(self.folder / "log.jsonl")
        self.assertEqual([(e["step"], e["reward"]) for e in steps], [(0, 9), (1, 0.5)])
        self.assertEqual([e["accuracy"] for e in validations], [0.25])

    def test_numbers_that_are_not_finite_are_left_out(self):
        entries = [{"step": 0, "kl": 1.0}, {"step": 1, "kl": None}, {"step": 2, "kl": float("nan")}, {"step": 3}]
        self.assertEqual(plot_run.series(entries, "kl"), ([0], [1.0]))

    def test_layers_are_sorted_as_numbers_within_their_kind(self):
        z = {f"model.layers.{i}.{kind}.weight": [i] for i in (10, 9, 2)
             for kind in ("mlp.up_proj", "self_attn.q_proj")}
        self.assertEqual({kind: [layer for layer, _ in rows] for kind, rows in plot_run.by_kind(z).items()},
                         {"up_proj": [2, 9, 10], "q_proj": [2, 9, 10]})

    def test_expert_is_read_bit_for_bit(self):
        z = {"model.layers.0.mlp.up_proj.weight": np.float32([1.25, -0.1, 3e-39])}
        write_expert(self.folder / "e.safetensors", z)
        for name, values in plot_run.read_expert(self.folder / "e.safetensors").items():
            np.testing.assert_array_equal(values, z[name])

    def test_heat_is_the_mean_distance_from_one(self):
        self.assertEqual(plot_run.columns(np.array([1.5, 0.5, 1.0, 1.25]), 2), [0.5, 0.125])

    def test_draws_both_pictures_and_twice_the_same(self):
        made_up_run(self.folder)
        pictures = [self.folder / "curves.png", self.folder / "z.png"]
        result = run(self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        for picture in pictures:
            self.assertGreater(min(png_size(picture)), 800)
        first = [p.read_bytes() for p in pictures]
        run(self.folder)
        self.assertEqual(first, [p.read_bytes() for p in pictures])
        # A control: other numbers, other picture.
        with open(self.folder / "log.jsonl", "a") as log:
            log.write('{"event":"step","step":20,"reward":-1}\n')
        run(self.folder)
        self.assertNotEqual(first[0], pictures[0].read_bytes())

    def test_an_unfinished_run_has_curves_only(self):
        made_up_run(self.folder, steps=3)
        (self.folder / "experts" / "final.safetensors").unlink()
        result = run(self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue((self.folder / "curves.png").exists())
        self.assertFalse((self.folder / "z.png").exists())

    def test_a_folder_that_is_not_a_run_gives_one_line(self):
        result = run(self.folder)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"\Aplot_run: .*log\.jsonl does not exist[^\n]*\n\Z")


if __name__ == "__main__":
    unittest.main()
