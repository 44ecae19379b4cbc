"""Decompositions: the model's matrices, and random ones of three shapes."""
import json
import random
import shutil
import struct

from benchmarks.programs import SOURCE, Contender, Failed, alternate, run
from benchmarks.result import Result, spread

SHAPES = ((4096, 1024, 2.0), (5632, 2048, 2.0), (2048, 2048, 1.3))  # and how much faster than an SVD
SIDE = {"beside": "2, a matrix in each"}


def random_matrices(bench, rows, columns):
    """Two of them, of normal numbers, in float32."""
    draw, size = random.Random(rows + columns), 4 * rows * columns
    header = {name: {"dtype": "F32", "shape": [rows, columns], "data_offsets": [i * size, (i + 1) * size]}
              for i, name in enumerate(("a", "b"))}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file = bench.folder / f"random-{rows}x{columns}.safetensors"
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _ in range(2 * rows):
            out.write(struct.pack(f"<{columns}f", *(draw.gauss(0, 0.02) for _ in range(columns))))
    return file


def seconds_of(found):
    return [one["seconds"] for one in found["runs"]], found


def libtorch(bench, file, only, how, name):
    return Contender(name, lambda threads: seconds_of(bench.baseline("baseline_decompose.py", file, only, how, threads, 1)),
                     (1, 2, "beside"))


def verify(bench, result, label, file, q, names):
    """Error of W', formed in float64 from what each gives."""
    checked = Contender("errors", lambda _: ([0], bench.baseline("verify_decompose.py", file, q, *names)))
    checked.turn()
    if checked.skipped:
        return result.note(f"Errors of W' were not compared: {checked.skipped}")
    ours = max(one["ours"] for one in checked.found["errors"])
    svd = max(one["svd"] for one in checked.found["errors"])
    least = min(one["svd"] / one["ours"] for one in checked.found["errors"])
    result.verify(f"{label}: error of W' from the stored Q, the largest", f"{ours:.1e}", ours < 1e-6)
    result.want(f"{label}: error of W' beside the float32 SVD's (up to {svd:.1e}): at least 1e3 times smaller",
                f"{least:.0f}", least >= 1e3)


def rows_of(contenders):
    return [[one.name, spread(one.seconds) if one.seconds else one.skipped,
             SIDE.get(one.setting, "-" if one.setting is None else one.setting),
             f"{one.median / contenders[0].median:.2f}" if one.seconds else "-"] for one in contenders]


HEADER = ["", "seconds", "threads", "time beside svfleet's"]


def of_model(bench, result):
    only = ".layers.0.mlp." if bench.quick else ".mlp."
    file, q = bench.model / "model.safetensors", bench.folder / "q.safetensors"

    def command(_):
        store = bench.folder / "new-factors"
        shutil.rmtree(store, ignore_errors=True)
        words = [bench.svfleet, "decompose", SOURCE / "examples/quickstart.yaml", "--quiet", "--json"]
        for setting in [f"model.path={bench.model}", f"svd.store={store}"] + (["svd.layers=0"] if bench.quick else []):
            words += ["--set", setting]
        out, seconds = run(words)
        found = json.loads(out)
        if found["made_now"] != found["matrices"]:
            raise Failed("decompose: not every matrix was decomposed now")
        return [seconds], found

    whole = Contender("svfleet decompose, with certificates, from its start to the files", command)
    inner = Contender("of it the decompositions and certificates", lambda _: seconds_of(
        bench.engine_part("decompose", file, only=only, workers=2, q=q)))
    svd = libtorch(bench, file, only, "svd", "torch.linalg.svd, float32")
    eigh = libtorch(bench, file, only, "eigh", "float64 Gram and eigh, no checks")
    all_of_them = alternate(bench, [whole, inner, svd, eigh])
    count = whole.found["matrices"]
    result.table(f"The model's {count} MLP matrices", HEADER, rows_of(all_of_them))
    worst = max(one["predicted_error"] for one in whole.found["certificates"])
    result.verify("worst error that a certificate predicts", f"{worst:.1e}", worst < 1e-6)
    names = [one["name"] for one in inner.found["certificates"]][:3]
    verify(bench, result, "the model's", file, q, names)
    result.ratio("the model's matrices against torch.linalg.svd in float32", whole, svd, 2.5)
    result.ratio("the model's matrices against bare Gram and eigh", whole, eigh, 1)
    result.record(all_of_them)


def of_shape(bench, result, rows, columns, least):
    if bench.quick:
        rows, columns = rows // 16, columns // 16
    label = f"{rows} x {columns}"
    file, q = random_matrices(bench, rows, columns), bench.folder / "q-random.safetensors"
    ours = Contender("svfleet, with certificates", lambda _: seconds_of(
        bench.engine_part("decompose", file, workers=2, q=q)))
    svd = libtorch(bench, file, "", "svd", "torch.linalg.svd, float32")
    eigh = libtorch(bench, file, "", "eigh", "float64 Gram and eigh, no checks")
    all_of_them = alternate(bench, [ours, svd, eigh])
    result.table(f"Two random matrices of {label}", HEADER, rows_of(all_of_them))
    verify(bench, result, label, file, q, ["a"])
    result.ratio(f"{label} against torch.linalg.svd in float32", ours, svd, least)
    result.ratio(f"{label} against bare Gram and eigh", ours, eigh, 1)
    result.data[label] = {one.name: {"seconds": one.seconds, "setting": one.setting} for one in all_of_them}
    file.unlink()


def measure(bench):
    result = Result()
    of_model(bench, result)
    for rows, columns, least in SHAPES:
        of_shape(bench, result, rows, columns, least)
    return result
