"""scripts/plot_run on made-up runs: what it reads, and what it draws."""
import json
import shutil
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
    """A log as coordinator/training/step_record.cc writes it, and the expert."""
    random = np.random.default_rng(0)
    names = [f"model.layers.{i}.mlp.{kind}.weight" for kind in ("gate_proj", "up_proj", "down_proj")
             for i in range(layers)]
    with open(folder / "log.jsonl", "w") as log:

        def write(**record):
            log.write(json.dumps(record) + "\n")

        write(kind="event", name="start", step=0, ranks=1, workers=2)
        for step in range(1, steps + 1):
            learnt, both = 1 - np.exp(-step / 10), {"step": step, "attempt": 1}
            if step % 8 == 0:
                write(kind="evaluation", name="validation", **both, accuracy=learnt, low=learnt - 0.05,
                      high=learnt + 0.02, n=200, right=int(200 * learnt), ended_fraction=1.0, mean_tokens=11.0)
            write(kind="step", **both, reward=2 * learnt - 1 + 0.1 * random.standard_normal(), accuracy=learnt,
                  counted=32, ended_fraction=0.8 + 0.2 * learnt, signal_fraction=0.5, entropy=2 - learnt,
                  gradient_norm=1 + random.random(), mean_tokens=14 - 4 * learnt, largest_z_move=0.1 * learnt,
                  log_prob_mismatch={"mean": 0.03, "max": 0.3}, tokens_per_s=120 + 10 * random.random(), wall_s=4.5,
                  seconds={"chunks": 4.0, "generate": 6.0, "gradient": 1.6, "reduce": 0.1, "merge": 0.4, "save": 0.02},
                  z={name: {"mean": 1.0, "std": 0.01 * learnt} for name in names},
                  **({"kl": {"k1": 3 * learnt, "k2": 3 * learnt, "k3": 2.9 * learnt}} if step % 10 == 1 else {}))
    z = {name: 1 + 0.03 * (i % layers + 1) / layers * random.standard_normal(576) for i, name in enumerate(names)}
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
        lines = [dict(kind="event", name="start", step=0),
                 dict(kind="step", step=2, attempt=1, reward=0.1), dict(kind="step", step=1, attempt=1, reward=9),
                 dict(kind="evaluation", name="validation", step=2, attempt=1, accuracy=0.75),
                 dict(kind="event", name="resume", step=1),
                 dict(kind="evaluation", name="validation", step=2, attempt=2, accuracy=0.25),
                 dict(kind="evaluation", name="test base", step=2, attempt=2, accuracy=1),
                 dict(kind="step", step=2, attempt=2, reward=0.5)]
        whole = "".join(json.dumps(line) + "\n" for line in lines)
        for torn in ("", '{"kind":"step","step":3,"rew', '{"kind":"step","step":3,"attempt":1,"reward":0.5}'):
            (self.folder / "log.jsonl").write_text(whole + torn)
            steps, validations = plot_run.read_log(self.folder / "log.jsonl")
            self.assertEqual([(r["step"], r["reward"]) for r in steps], [(1, 9), (2, 0.5)])
            self.assertEqual([r["accuracy"] for r in validations], [0.25])

    def test_a_broken_line_is_left_out(self):
        (self.folder / "log.jsonl").write_bytes(b'\xff\n[1]\n\n{"kind":"step","step":1}\n{"kind":"step","step":"x"}\n')
        self.assertEqual([r["step"] for r in plot_run.read_log(self.folder / "log.jsonl")[0]], [1])

    def test_z_is_taken_from_where_it_stands(self):
        def write(name, *lines):
            (self.folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

        def z():
            return {r["step"]: r.get("z") for r in plot_run.read_log(self.folder / "log.jsonl")[0]}

        steps = [dict(kind="step", step=9, attempt=1), dict(kind="step", step=9, attempt=2),
                 dict(kind="step", step=10, attempt=1, z="in the log"), dict(kind="step", step=11, attempt=1)]
        write("log.jsonl", *steps)
        self.assertEqual(z(), {9: None, 10: "in the log", 11: None})  # a run from before z.jsonl
        write("z.jsonl", dict(kind="z", step=9, attempt=1, z="lost"), dict(kind="z", step=9, attempt=2, z="beside it"),
              dict(kind="z", step=11, attempt=2, z="of a step that was not logged"))
        self.assertEqual(z(), {9: "beside it", 10: "in the log", 11: None})

    def test_wilson_interval(self):
        # Wilson 1927, as tabled for 10 of 20; and the ends, where the normal interval has no width.
        np.testing.assert_allclose(plot_run.wilson(0.5, 20), (0.2993, 0.7007), atol=5e-5)
        np.testing.assert_allclose(plot_run.wilson(0.0, 32), (0.0, 0.1072), atol=5e-5)
        np.testing.assert_allclose(plot_run.wilson(1.0, 32), (0.8928, 1.0), atol=5e-5)

    def test_numbers_that_are_not_finite_are_left_out(self):
        entries = [{"step": 0, "kl": 1.0}, {"step": 1, "kl": None}, {"step": 2, "kl": float("nan")}, {"step": 3}]
        self.assertEqual(plot_run.series(entries, "kl"), ([0], [1.0]))
        inside = [{"step": 1, "kl": {"k1": 2.5}}, {"step": 2, "kl": {}}, {"step": 3}]
        self.assertEqual(plot_run.series(inside, "kl", "k1"), ([1], [2.5]))

    def test_kinds_and_layers_are_in_the_order_of_the_model(self):
        z = {f"model.layers.{i}.{kind}.weight": [i] for i in (10, 9, 2)
             for kind in ("mlp.up_proj", "mlp.down_proj", "self_attn.q_proj")}
        self.assertEqual([(kind, [layer for layer, _ in rows]) for kind, rows in plot_run.by_kind(z).items()],
                         [("q_proj", [2, 9, 10]), ("up_proj", [2, 9, 10]), ("down_proj", [2, 9, 10])])

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
            log.write('{"kind":"step","step":20,"attempt":2,"reward":-1}\n')
        run(self.folder)
        self.assertNotEqual(first[0], pictures[0].read_bytes())

    def test_several_tasks_and_rewards_are_drawn(self):
        made_up_run(self.folder, steps=16)
        run(self.folder)
        before = (self.folder / "curves.png").read_bytes()
        lines = [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]
        for record in lines:  # as a run of two tasks writes it
            if record["kind"] in ("step", "evaluation"):
                record["score"] = record["accuracy"]
                record["by_task"] = [dict(task="all", n=16, accuracy=record["accuracy"])]
        write = lambda: (self.folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
        write()
        run(self.folder)
        self.assertEqual(before, (self.folder / "curves.png").read_bytes())  # one task, score = accuracy
        pictures = {before}
        for key, value in (("score", 0.75), ("by_task", [dict(task="a", n=9, accuracy=0.2, score=0.3),
                                                         dict(task="b", n=7, accuracy=0.9, score=0.9)])):
            for record in lines:
                if record["kind"] in ("step", "evaluation"):
                    record[key] = value
            write()
            self.assertEqual(run(self.folder).returncode, 0)
            pictures.add((self.folder / "curves.png").read_bytes())
        self.assertEqual(len(pictures), 3)
        records = [dict(step=3, by_task=[dict(task="a", accuracy=0.2), dict(task="b", accuracy=0.9)]),
                   dict(step=4), dict(step=5, by_task=[dict(task="a", accuracy=None)])]
        self.assertEqual(plot_run.by_task(records), {"a": [dict(task="a", accuracy=0.2, step=3)],
                                                     "b": [dict(task="b", accuracy=0.9, step=3)]})

    def test_experts_of_one_run_have_a_picture_each(self):
        made_up_run(self.folder, steps=12)
        names = ["one", "two"]
        (self.folder / "run.json").write_text(json.dumps({"experts": names}))
        log, z = self.folder / "log.jsonl", self.folder / "z.jsonl"
        records = [json.loads(line) for line in log.read_text().splitlines()]

        def write(records):
            log.write_text("".join(json.dumps(record) + "\n" for record in records))

        several = []
        for record in records:
            several += [record] if record["kind"] == "event" else [
                dict(record, expert=name, **({"reward": place} if record["kind"] == "step" else {}))
                for place, name in enumerate(names)]
        write(several)
        z.write_text("".join(json.dumps(dict(kind="z", expert=name, step=13, attempt=1, z=name)) + "\n" for name in names))
        for name in names:
            write_expert(self.folder / "experts" / name / "final.safetensors",
                         {"model.layers.0.mlp.up_proj.weight": [1.5, 1.0, 0.75]})
        done = run(self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        pictures = {name: self.folder / f"{kind}-{name}.png" for name in names for kind in ("z", "curves")}
        self.assertEqual(done.stdout.split(), [str(self.folder / f"{kind}-{name}.png") for name in names
                                               for kind in ("curves", "z")])
        before = {name: path.read_bytes() for name, path in pictures.items()}
        self.assertNotEqual(before["one"], before["two"])
        self.assertFalse((self.folder / "curves.png").exists())
        for place, name in enumerate(names):
            steps, validations = plot_run.read_log(log, name)
            self.assertEqual([(r["step"], r["reward"]) for r in steps], [(step, place) for step in range(1, 13)])
            self.assertEqual(len(validations), 1)
        # z of a step that stands beside the log is the expert's own.
        write([*several, *(dict(kind="step", expert=name, step=13, attempt=1) for name in names)])
        self.assertEqual([plot_run.read_log(log, name)[0][-1]["z"] for name in names], names)
        # Control: another record of one changes its picture, and not the other's.
        write([*several, dict(kind="step", expert="two", step=5, attempt=2, reward=9)])
        self.assertEqual(run(self.folder).returncode, 0)
        after = {name: path.read_bytes() for name, path in pictures.items()}
        self.assertEqual(before["one"], after["one"])
        self.assertNotEqual(before["two"], after["two"])
        refused = run(self.folder, "--expert", self.folder / "experts/one/final.safetensors")
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr, r"\Aplot_run: [^\n]*several experts, one, two[^\n]*\n\Z")
        (self.folder / "experts/two/final.safetensors").unlink()  # not there yet: its curves are
        done = run(self.folder)
        self.assertEqual(done.returncode, 0)
        self.assertIn("no picture of z", done.stderr)

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

    def test_an_environment_that_cannot_be_run_gives_one_line(self):
        """A link into a folder that only the owner of the clone may enter looks like one to nowhere."""
        with tempfile.TemporaryDirectory() as name:
            for folder in ("scripts", ".venv/bin"):
                (Path(name) / folder).mkdir(parents=True)
            script = shutil.copy(Path(plot_run.__file__).with_suffix(""), Path(name) / "scripts")
            words = {"cannot be run by you: it leads to /nowhere/python3": "/nowhere/python3", "run scripts/setup": None}
            for says, link in words.items():
                python = Path(name) / ".venv/bin/python"
                python.unlink(missing_ok=True)
                if link:
                    python.symlink_to(link)
                done = subprocess.run([script, "run"], capture_output=True, text=True)
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, rf"\Aplot_run: [^\n]*{says}[^\n]*\n\Z")


if __name__ == "__main__":
    unittest.main()
