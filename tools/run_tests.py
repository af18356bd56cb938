#!/usr/bin/env python3
"""Runs the parts of `make test` and `make check-all` that are already built, and counts their tests.

Usage: tools/run_tests.py [--build FOLDER] PART...   Parts:
  checks   include layers, family names, formatting
  unit     unit tests of the release build           asan, tsan   the same in build-asan, build-tsan
  slow     the suites named Slow*                    qemu         kernel tests of build-aarch64 under qemu-aarch64
  variants the cases of tests/reference, made where transformers is (tools/setup.sh reference)
  fuzz     the fuzzers of build-asan, a minute each  pytest       tests/ with build/baize
Every part runs even if an earlier one failed. The last line is "N passed, N failed". Standard library only.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import check_skips
import fuzz

ROOT = Path(__file__).resolve().parent.parent
JOBS = os.cpu_count() or 1
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:check_initialization_order=1:strict_init_order=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "LLVM_PROFILE_FILE": "/dev/null",  # coverage is counted while fuzzing only
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


# Exits with success where the reference implementation is.
WITH_REFERENCE = """
import sys
from importlib.util import find_spec
from importlib.metadata import version
sys.exit(not (find_spec("torch") and find_spec("transformers") and version("transformers").startswith("5.17.")))
"""


class Tally:
    """What ran so far: counts and the names of failures."""

    def __init__(self):
        self.passed, self.failures = 0, []

    def add(self, name, ok):
        self.passed += ok
        if not ok:
            self.failures.append(name)

    def add_file(self, part, file):
        for name, outcome in check_skips.results(file):
            if outcome != "skipped":
                self.add(f"{part}: {name}", outcome == "passed")
        for name in check_skips.unlisted_skips([file]):
            self.add(f"{part}: {name} was skipped, and tests/skips.txt does not name it", False)


def run(command, show=False, **kwargs):
    """Runs a command; prints its output if it fails (or show). Returns success."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=None if show else subprocess.PIPE,
                          stderr=None if show else subprocess.STDOUT, text=True, errors="replace", **kwargs)
    seconds = time.monotonic() - started
    if done.returncode and not show:
        print(done.stdout[-20000:])
    name = " ".join(str(part) for part in command[:3])
    print(f"  {'ok  ' if done.returncode == 0 else 'FAIL'} {seconds:6.1f} s  {name.replace(str(ROOT) + '/', '')}", flush=True)
    return done.returncode == 0


def sources():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", "src", "tests", "bench", "cmake"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split()
    return [f for f in listed if f.endswith((".h", ".cc", ".cu", ".cuh")) and (ROOT / f).exists()]


def checks(tally, _):
    for command in (["python3", "tools/layers.py"], ["python3", "tools/check_names.py"],
                    ["python3", "tools/models_doc.py", "--check"], ["python3", "tools/figures.py"],
                    ["clang-format-19", "--dry-run", "-Werror", *sources()]):
        name = command[1] if command[0] == "python3" else "formatting (make format repairs it)"
        tally.add(name, run(command, show="figures" in command[1]))


def gtest(tally, part, folder, prefix=(), tests_filter="-Slow*:*/Slow*"):
    """Runs every test program of a build folder, one per core at a time."""
    programs = sorted(p for p in (folder / "tests").glob("*_test") if p.name != "cuda_test")  # that one needs a GPU
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not programs:
        tally.add(f"{part}: no test programs in {folder}", False)

    def one(program):
        file = results / f"{program.name}.{part}.json"
        file.unlink(missing_ok=True)
        env = os.environ | SANITIZER_OPTIONS
        ok = run([*prefix, program, f"--gtest_output=json:{file}", f"--gtest_filter={tests_filter}", "--gtest_brief=1"], env=env)
        return program.name, file, ok

    with ThreadPoolExecutor(JOBS) as pool:
        for name, file, ok in pool.map(one, programs):
            failures = len(tally.failures)
            if file.exists():
                tally.add_file(part, file)
            if not ok and len(tally.failures) == failures:
                tally.add(f"{part}: {name} did not finish", False)


def unit(tally, build):
    gtest(tally, "unit", build)


def slow(tally, build):
    gtest(tally, "slow", build, tests_filter="Slow*:*/Slow*")


def variants(tally, build):
    """Makes the cases of tests/reference (kept, and remade only where their table changed) and runs them, one shard a core."""
    python = next((p for p in (ROOT / ".venv-reference/bin/python", ROOT / ".venv/bin/python")
                   if p.exists() and subprocess.run([p, "-c", WITH_REFERENCE], capture_output=True).returncode == 0), None)
    if python is None:
        print("  not made: needs transformers 5.17 and torch (tools/setup.sh reference)")
        return
    cases = build / "variants"
    made = [python, "tests/reference/make_cases.py", "--bases", build / "goldens/hf", cases]
    if not run(made, show=True):
        tally.add("variants: make_cases.py", False)
        return

    def shard(index):
        file = build / "results" / f"model_test.variants{index}.json"
        file.unlink(missing_ok=True)
        env = os.environ | {"BAIZE_VARIANTS": str(cases), "GTEST_TOTAL_SHARDS": str(JOBS), "GTEST_SHARD_INDEX": str(index)}
        return file, run([build / "tests/model_test", f"--gtest_output=json:{file}", "--gtest_filter=SlowVariants*",
                          "--gtest_brief=1"], env=env)

    (build / "results").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(JOBS) as pool:
        for file, ok in pool.map(shard, range(JOBS)):
            failures = len(tally.failures)
            if file.exists():
                tally.add_file("variants", file)
            if not ok and len(tally.failures) == failures:
                tally.add("variants: model_test did not finish", False)


def asan(tally, _):
    gtest(tally, "asan", ROOT / "build-asan")


def tsan(tally, _):
    gtest(tally, "tsan", ROOT / "build-tsan")


def qemu(tally, _):
    gtest(tally, "qemu", ROOT / "build-aarch64", prefix=["qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"])


def run_fuzz(tally, _):
    for name, ok in fuzz.run_all(ROOT, seconds=int(os.environ.get("FUZZ_SECONDS", "60"))):
        tally.add(f"fuzz: {name}", ok)


def pytest(tally, build):
    if not any(ROOT.glob("tests/**/test_*.py")):
        return
    file = build / "results" / "pytest.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    env = os.environ | {"BAIZE": str(build / "baize"), "PYTHONDONTWRITEBYTECODE": "1"}
    ok = run([ROOT / ".venv/bin/python", "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider", f"--junitxml={file}"], show=True, env=env)
    failures = len(tally.failures)
    if file.exists():
        tally.add_file("pytest", file)
    if not ok and len(tally.failures) == failures:
        tally.add("pytest did not finish", False)


PARTS = {"checks": checks, "unit": unit, "slow": slow, "variants": variants, "asan": asan, "tsan": tsan, "qemu": qemu, "fuzz": run_fuzz, "pytest": pytest}


def main():
    parser = argparse.ArgumentParser(description="see the head of this file")
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("parts", nargs="+", choices=PARTS)
    arguments = parser.parse_args()
    tally = Tally()
    for part in arguments.parts:
        print(f"== {part}", flush=True)
        PARTS[part](tally, arguments.build.resolve())
    if tally.failures:
        print("Failed:", *tally.failures, sep="\n  ")
    print(f"{tally.passed} passed, {len(tally.failures)} failed")
    return 1 if tally.failures or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
