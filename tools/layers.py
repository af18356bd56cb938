#!/usr/bin/env python3
"""Checks that includes in src/ follow the layers of docs/architecture.md.

ALLOWED lists, for every layer folder, the layers it may include (its own is always allowed). Any other edge, a cycle of
files, a quoted include that is not relative to src/, and an outside library in a layer that does not own it fail.
"""

import re
import sys
from pathlib import Path

MATHS = ["base", "tensor", "ops"]
ALLOWED = {
    "base": [],
    "tensor": ["base"],
    "ops": ["base", "tensor"],
    "backend/ref": MATHS,
    "backend/cpu": MATHS,
    "backend/cuda": MATHS,
    "backend/cuda_loader": MATHS,  # opens the shared object of backend/cuda
    "formats": ["base", "tensor"],
    "store": ["base"],
    "text": ["base"],
    "model": MATHS + ["formats"],
    "engine": MATHS + ["model"],
    "serve": ["base", "text", "engine"],
    "apps": MATHS + ["backend/ref", "backend/cpu", "backend/cuda_loader", "formats", "store", "text", "model", "engine", "serve"],
}
# Outside headers (by prefix) and the only layers that may include them; others, such as the C++ library, are free.
OWNERS = {
    "spdlog/": ["base"],
    "curl/": ["store"],
    "boost/": ["serve", "apps"],
    "CLI/": ["apps"],
    "histedit.h": ["apps"],
    "baize_text.h": ["text"],  # the C header of rust/
    "cuda": ["backend/cuda"],
    "nccl": ["backend/cuda"],
    "flashinfer/": ["backend/cuda"],
}
SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.MULTILINE)


def layer_of(path):
    """The layer folder of a path relative to src/, or None."""
    parts = path.split("/")
    for name in ("/".join(parts[:2]), parts[0]):
        if name in ALLOWED and len(parts) > name.count("/") + 1:
            return name
    return None


def check_file(path, text, files):
    """Returns (problems, paths of src/ that this file includes)."""
    layer = layer_of(path)
    if layer is None:
        return [f"{path}: belongs to no layer (tools/layers.py lists them)"], []
    problems, includes = [], []
    for match in INCLUDE.finditer(text):
        quote, target = match.groups()
        where = f"src/{path}:{text.count(chr(10), 0, match.start()) + 1}"
        owners = next((o for prefix, o in OWNERS.items() if target.startswith(prefix)), None)
        if owners is not None:
            if layer not in owners:
                problems.append(f"{where}: {layer} may not include {target}; only {', '.join(owners)} may")
        elif target in files:
            includes.append(target)
            other = layer_of(target)
            if other != layer and other not in ALLOWED[layer]:
                problems.append(f"{where}: {layer} may not include {other} ({target})")
        elif quote == '"':
            problems.append(f'{where}: "{target}" is no file of src/; paths are relative to src/')
    return problems, includes


def find_cycle(graph):
    """One cycle of the include graph as a list of files, or None."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node):] + [node]
        if node in done:
            return None
        path.append(node)
        for other in graph[node]:
            cycle = visit(other)
            if cycle:
                return cycle
        path.pop()
        done.add(node)
        return None

    for node in sorted(graph):
        cycle = visit(node)
        if cycle:
            return cycle
    return None


def main():
    src = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "src"
    files = {str(p.relative_to(src)): p for p in src.rglob("*") if p.suffix in SUFFIXES}
    problems, graph = [], {}
    for path, file in sorted(files.items()):
        found, graph[path] = check_file(path, file.read_text(), files)
        problems += found
    cycle = find_cycle(graph)
    if cycle:
        problems.append("cycle of includes: " + " -> ".join(cycle))
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"layers: {len(files)} files, {len(problems)} problems")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
