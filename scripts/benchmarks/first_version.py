"""The version of svfleet that this engine is compared with, built from the repository's history."""
import os
import shutil
import subprocess

from benchmarks.programs import SOURCE, Failed, run

COMMIT = "958e902"
ADDED = """
add_executable(bench_first_version bench_first_version.cc)
target_link_libraries(bench_first_version PRIVATE svfleet_worker)
"""


def folder(bench):
    return bench.folder / "first-version"


def program(bench):
    """bench_first_version, and svfleet beside it; built when it is not there."""
    place = folder(bench)
    built = place / "build/bench_first_version"
    source = SOURCE / "scripts/benchmarks/first_version.cc"
    if not (place / "CMakeLists.txt").exists():
        bench.say(f"building commit {COMMIT} in {place}")
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        history = subprocess.Popen(["git", "archive", COMMIT], cwd=SOURCE, stdout=subprocess.PIPE)
        unpacked = subprocess.run(["tar", "-x", "-C", str(part)], stdin=history.stdout)
        if history.wait() or unpacked.returncode:
            raise Failed(f"commit {COMMIT} is not in this repository's history: make a full clone")
        os.symlink(SOURCE / ".venv", part / ".venv")
        with open(part / "CMakeLists.txt", "a", encoding="utf-8") as file:
            file.write(ADDED)
        part.rename(place)
    shutil.copy2(source, place / "bench_first_version.cc")
    run(["cmake", "-S", place, "-B", place / "build", "-G", "Ninja", "-DSVFLEET_TESTS=OFF",
         f"-DPython3_EXECUTABLE={place}/.venv/bin/python"])
    run(["ninja", "-C", place / "build", "svfleet", "bench_first_version"])
    return built


def store(bench):
    """Its own decomposition of the model, which this version reads, too."""
    made = bench.folder / "first-factors"
    run([folder(bench) / "build/svfleet", "decompose", SOURCE / "examples/quickstart.yaml", "--quiet",
         "--set", f"model.path={bench.model}", "--set", f"svd.store={made}"], cwd=folder(bench))
    return made
