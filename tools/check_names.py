#!/usr/bin/env python3
"""Checks that no architecture or model_type stands in src/ outside the places made for them.

The names are those of the FAMILY(...) lines in src/model/families/*.cc. Elsewhere (but for src/model/names* and the
pre-tokenizer table) they may stand neither in a string, where '_', '.', '-' and such end a word, nor as an identifier.
Comments are free to mention them.
"""

import re
import sys
from pathlib import Path

FREE = re.compile(r"model/families/|model/names|text/pretokenizer")
SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".inc"}
FAMILY = re.compile(r"^FAMILY\((\w+)\s*,\s*\(([^)]*)\)\s*,\s*\(([^)]*)\)", re.MULTILINE)
TOKEN = re.compile(
    r'(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<raw>R"(?P<tag>[^(\s]*)\((?P<body>.*?)\)(?P=tag)")'
    r'|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<char>\'(?:\\.|[^\'\\\n])+\')|(?P<word>[A-Za-z_]\w*)',
    re.DOTALL)


def family_names(src):
    names = set()
    for file in sorted((src / "model" / "families").glob("*.cc")):
        for match in FAMILY.finditer(file.read_text()):
            names.add(match.group(1))
            names.update(re.findall(r'"([^"]+)"', match.group(2) + match.group(3)))
    return names


def check_file(path, text, names):
    in_string = re.compile(r"(?<![A-Za-z0-9])(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) +
                           r")(?![A-Za-z0-9])")
    problems = []
    for token in TOKEN.finditer(text):
        if token["string"] or token["raw"]:
            if re.search(r"#[ \t]*include[ \t]*$", text[:token.start()][-40:]):
                continue  # a path, which tools/layers.py judges
            hit = in_string.search(token[0])
        else:
            hit = token["word"] in names and re.match(r"\w+", token["word"])
        if hit:
            line = text.count("\n", 0, token.start()) + 1
            problems.append(f'src/{path}:{line}: "{hit[0]}" names a model family; a family is known in its own file only')
    return problems


def main():
    src = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "src"
    names = family_names(src)
    problems = []
    for file in sorted(p for p in src.rglob("*") if p.suffix in SUFFIXES):
        path = str(file.relative_to(src))
        if names and not FREE.match(path):
            problems += check_file(path, file.read_text(), names)
    if not names and (src / "model" / "families").is_dir():
        problems.append("no FAMILY(...) line found in src/model/families/*.cc")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"names: {len(names)} family names, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
