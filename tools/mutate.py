#!/usr/bin/env python3
"""Proves that the unit tests notice when a mechanism is switched off.

Usage: tools/mutate.py BUILD [NAME...]   BUILD was configured with -DBAIZE_MUTATE=ON; NAMEs default to every switch
`mutated("...")` in src/ (base/mutate.h). For each, the test programs run with the switch on until one fails; a switch that
no test notices has survived, and the exit status is 1. Two at a time; first all tests must pass without a switch.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SWITCH = re.compile(r'\bmutated\(\s*"([^"]+)"\s*\)')
FIRST = ["model_test", "ref_test", "cpu_test", "engine_test"]  # these notice most; the others follow
TIMEOUT = 900


def switches():
    """Names of all switches in the sources, with the first file each stands in."""
    found = {}
    for file in sorted((ROOT / "src").rglob("*")):
        if file.suffix in {".cc", ".h", ".inc"}:
            for name in SWITCH.findall(file.read_text()):
                found.setdefault(name, str(file.relative_to(ROOT)))
    return found


def programs(build):
    rank = {name: i for i, name in enumerate(FIRST)}
    return sorted((build / "tests").glob("*_test"), key=lambda p: (rank.get(p.name, len(rank)), p.name))


def first_failure(program, name):
    """Runs a test program with a switch on. Returns the name of the first test that fails, or None."""
    command = [program, "--gtest_brief=1", "--gtest_fail_fast", "--gtest_filter=-Slow*:*/Slow*"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              env=os.environ | {"BAIZE_MUTATE": name}, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"{program.name} hung"
    if done.returncode == 0:
        return None
    failed = re.search(r"^\[  FAILED  \] ([^\s,]+)", done.stdout, re.MULTILINE)
    return failed.group(1) if failed else f"{program.name} ended with {done.returncode}"


def try_switch(build, name):
    return next(filter(None, (first_failure(program, name) for program in programs(build))), None)


def main():
    build = Path(sys.argv[1]).resolve()
    known = switches()
    names = sys.argv[2:] or sorted(known)
    unknown = [name for name in names if name not in known]
    if unknown or not names or not programs(build):
        print(f"mutate: unknown switches {unknown}" if unknown else f"mutate: no switches in src/, or no test programs in {build}")
        return 1
    survivors = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for program, failed in zip(programs(build), pool.map(lambda p: first_failure(p, ""), programs(build))):
            if failed:
                print(f"mutate: {failed} of {program.name} fails without any switch; repair that first")
                return 1
        for name, failed in zip(names, pool.map(lambda n: try_switch(build, n), names)):
            print(f"  {'ok  ' if failed else 'LIVE'} {name:<32} {failed or 'NO TEST NOTICED; it stands in ' + known[name]}", flush=True)
            survivors += [] if failed else [name]
    print(f"mutations: {len(names) - len(survivors)} noticed, {len(survivors)} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
