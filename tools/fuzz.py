#!/usr/bin/env python3
"""Runs the libFuzzer programs of build-asan for some seconds each and prints the source coverage they reached.

Usage: tools/fuzz.py [--seconds N] [NAME...]   tests/fuzz/NAME_fuzz.cc starts from the files of tests/fuzz/seeds/NAME/
and MORE_SEEDS.
Seeds of chance are new in every run, but in CI (CI is set), where a change and not chance is to decide.
New inputs are kept in build-asan/corpus/NAME for the next run; an input that crashes is left in build-asan/crashes.
"""

import argparse
import base64
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LLVM = "-19"
MAX_BYTES = 1 << 16
# Small valid files that lie elsewhere: every family's configuration.
MORE_SEEDS = {"config": ["build/goldens/hf/*/config.json", "bench/configs/*.json"]}


def gather_seeds(root, name):
    """Copies the target's seeds into one folder and returns it."""
    folder = root / "build-asan" / "seeds" / name
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in [f"tests/fuzz/seeds/{name}/*", *MORE_SEEDS.get(name, [])]:
        for file in root.glob(pattern):
            shutil.copyfile(file, folder / file.relative_to(root).as_posix().replace("/", "_"))
    return folder


def run_one(root, name, seconds):
    """Fuzzes one target. Returns (name, succeeded)."""
    build = root / "build-asan"
    corpus, crashes, log = build / "corpus" / name, build / "crashes", build / "results" / f"{name}.log"
    for folder in (corpus, crashes, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    seeds = gather_seeds(root, name)
    dictionary = root / "tests" / "fuzz" / f"{name}.dict"
    command = [build / "fuzz" / f"{name}_fuzz", f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", "-timeout=20",
               f"-seed={1 if os.environ.get('CI') else 0}", "-rss_limit_mb=3072",
               "-malloc_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={crashes}/{name}-", corpus, seeds]
    if dictionary.exists():
        command.insert(1, f"-dict={dictionary}")
    env = os.environ | {"LLVM_PROFILE_FILE": str(build / "results" / f"{name}.profraw"), "ASAN_OPTIONS": "detect_leaks=1"}
    with log.open("w") as output:
        code = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, check=False).returncode
    text = log.read_text(errors="replace")
    runs = next((line.split()[-1] for line in text.splitlines() if "number_of_executed_units" in line), "0")
    print(f"  {'ok  ' if code == 0 else 'FAIL'} {name}: {int(runs):,} runs in {seconds} s", flush=True)
    if code:
        # Without libFuzzer's progress lines, and with the input: a CI machine keeps no files.
        print("\n".join(line for line in text.splitlines() if not line.startswith("#"))[-4000:])
        for artifact in sorted(crashes.glob(f"{name}-*")):
            print(f"  {artifact.name}, in base64: {base64.b64encode(artifact.read_bytes()[:4096]).decode()}")
    return name, code == 0


def print_coverage(root, names):
    """Prints, for each fuzzed source file, the share of its lines that ran."""
    build = root / "build-asan"
    profiles = [p for p in (build / "results" / f"{name}.profraw" for name in names) if p.exists()]
    if not profiles:
        return
    merged = build / "results" / "all.profdata"
    subprocess.run([f"llvm-profdata{LLVM}", "merge", "-sparse", "-o", merged, *profiles], check=True)
    objects = [argument for name in names for argument in ("-object", build / "fuzz" / f"{name}_fuzz")]
    report = subprocess.run([f"llvm-cov{LLVM}", "report", *objects[1:], f"-instr-profile={merged}", "-show-region-summary=false",
                             "-show-branch-summary=false", "-ignore-filename-regex=/usr/|/tests/|/cmake/"],
                            capture_output=True, text=True, check=True).stdout
    print("  lines covered while fuzzing:")
    for line in report.splitlines():
        cells = line.split()
        if len(cells) == 7 and cells[0].endswith((".cc", ".h", "TOTAL")) and cells[6] != "0.00%":
            print(f"    {cells[6]:>8} of {cells[4]:>5}  {cells[0]}")


def run_all(root, seconds, only=()):
    """Fuzzes every target (or `only`), two at a time. Yields (name, succeeded)."""
    names = sorted(p.name.removesuffix("_fuzz.cc") for p in (root / "tests" / "fuzz").glob("*_fuzz.cc"))
    names = [name for name in names if not only or name in only]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        outcomes = list(pool.map(lambda name: run_one(root, name, seconds), names))
    print_coverage(root, names)
    return outcomes


def main():
    parser = argparse.ArgumentParser(description="see the head of this file")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    outcomes = run_all(Path(__file__).resolve().parent.parent, arguments.seconds, arguments.names)
    return 0 if outcomes and all(ok for _, ok in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
