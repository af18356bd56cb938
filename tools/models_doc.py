#!/usr/bin/env python3
"""Writes docs/models.md: the families of src/model/families, read from their FAMILY(...) lines and head comments.

Usage: tools/models_doc.py [--check]     --check: only say whether the page is up to date
Standard library only.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAMILY = re.compile(r"^FAMILY\((\w+)\s*,\s*\(([^)]*)\)\s*,\s*\(([^)]*)\)", re.MULTILINE)
WRITTEN_AS = re.compile(r'^WRITTEN_AS\((\w+)\s*,\s*"([^"]+)"\)', re.MULTILINE)
HEAD = """# Models

Baize runs these architectures; `tools/models_doc.py` writes this page from the family files. Each runs from a Hugging Face
folder (safetensors), those with a GGUF name from GGUF files too; `baize convert` writes these and the families that GGUF files
call by another's name ("as"). A tiny random model of every family is compared with the
logits of the `transformers` library, on the reference and the CPU backend, whole and in pieces.

| Family | Hugging Face | GGUF |
|---|---|---|
"""


def names(text):
    return ", ".join(f"`{name}`" for name in re.findall(r'"([^"]+)"', text)) or "-"


def page():
    rows, notes = [], []
    for file in sorted((ROOT / "src/model/families").glob("*.cc")):
        text = file.read_text()
        found = FAMILY.findall(text)
        others = {name: f'"as {other}"' for name, other in WRITTEN_AS.findall(text)}
        rows += [f"| {name} | {names(hf)} | {names(gguf or others.get(name, ''))} |" for name, hf, gguf in found]
        comment = " ".join(line[2:].strip() for line in text.split("\n#include")[0].split("\n") if line.startswith("//"))
        notes.append(f"- **{', '.join(name for name, _, _ in found)}**: {comment}")
    pending = [line.split(": ", 1) for line in (ROOT / "tests/data/golden_pending.txt").read_text().splitlines()
               if ": " in line and not line.startswith("#")]
    text = HEAD + "\n".join(sorted(rows)) + "\n\n## What they are\n\n" + "\n".join(notes) + "\n"
    if pending:
        text += "\n## Not yet\n\n" + "\n".join(f"- {name}: {why}" for name, why in pending) + "\n"
    return text


def main():
    target = ROOT / "docs/models.md"
    text = page()
    if "--check" in sys.argv[1:]:
        same = target.exists() and target.read_text() == text
        print("models.md: " + ("up to date" if same else "differs; run tools/models_doc.py"))
        return 0 if same else 1
    target.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
