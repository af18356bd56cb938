#!/usr/bin/env python3
"""Checks the result files of a test run (GoogleTest JSON, pytest JUnit XML) for skipped or disabled tests.

Usage: tools/check_skips.py FILE...   Each skipped test must be named in tests/skips.txt (one a line, '#' comments).
"""

import json
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

SKIPS = Path(__file__).resolve().parent.parent / "tests" / "skips.txt"


def gtest_results(file):
    """Yields (name, outcome) of every test; outcome is passed, failed or skipped."""
    for suite in json.loads(file.read_text())["testsuites"]:
        for test in suite["testsuite"]:
            ran = test["status"] == "RUN" and test["result"] == "COMPLETED"
            yield f'{suite["name"]}.{test["name"]}', "failed" if "failures" in test else "passed" if ran else "skipped"


def pytest_results(file):
    for case in xml.parse(file).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        yield f'{case.get("classname")}::{case.get("name")}', outcome


def results(file):
    return list((gtest_results if file.suffix == ".json" else pytest_results)(file))


def unlisted_skips(files):
    lines = SKIPS.read_text().splitlines()
    listed = {line.split("#")[0].strip() for line in lines} - {""}
    return sorted({name for file in files for name, outcome in results(file) if outcome == "skipped"} - listed)


def main():
    skipped = unlisted_skips([Path(name) for name in sys.argv[1:]])
    for name in skipped:
        print(f"{name}: skipped, and tests/skips.txt does not name it")
    return 1 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
