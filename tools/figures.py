#!/usr/bin/env python3
"""Prints what a model family costs in source lines (comments and blank lines count); fails beyond the limits.

Usage: tools/figures.py     Families are the files of src/model/families; what a new one touches is that file alone, for
tools/check_names.py lets no other file of src/ name it; bench/configs and docs/models.md (generated) are its data.
"""

import statistics
import sys
from pathlib import Path

MODEL = Path(__file__).resolve().parent.parent / "src" / "model"
MEDIAN_LIMIT, LIMIT = 40, 100


def lines(file):
    return len(file.read_text().splitlines())


def main():
    sizes = {file.name: lines(file) for file in sorted((MODEL / "families").glob("*.cc"))}
    families = sum(file.read_text().count("\nFAMILY(") for file in (MODEL / "families").glob("*.cc"))
    median = statistics.median(sizes.values())
    largest = max(sizes, key=sizes.get)
    print(f"  {families} families in {len(sizes)} files: median {median:g} lines (limit {MEDIAN_LIMIT}), most {sizes[largest]} "
          f"({largest}; limit {LIMIT}); a new family touches 1 file of src/")
    parts = [MODEL / "forward.cc", *sorted((MODEL / "blocks").glob("*.cc"))]
    print("  " + ", ".join(f"{file.name} {lines(file)}" for file in parts) + " lines")
    return 0 if median < MEDIAN_LIMIT and sizes[largest] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
