#!/usr/bin/env bash
# clang-tidy over the files of src/ that BUILD compiles: tools/tidy.sh BUILD [JOBS]. Any finding fails.
# A kernel file that is compiled for several instruction sets is looked at once, in its widest variant. The version is pinned,
# for each brings new checks; it comes from PyPI, where one of a release later than Debian's does not look into the headers of
# libraries again for every file: an hour of a processor less. The static analyser's walk through a function is cut at
# MAX_NODES (clang's own limit is 225000), which halves what is left and finds the same here.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly BUILD=$1 JOBS=${2:-2} VERSION=23.1.4 MAX_NODES=50000
tidy=.venv/bin/clang-tidy
[[ $($tidy --version 2>/dev/null) == *"$VERSION"* ]] || .venv/bin/pip install --quiet "clang-tidy==$VERSION"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 - "$BUILD/compile_commands.json" "$scratch/compile_commands.json" <<'PY'
import json, re, sys
entries = {e["file"]: e for e in json.load(open(sys.argv[1]))}  # the last variant of a file stays
for e in entries.values():  # precompiled headers of GCC are left out: each file must include what it uses
    e["command"] = re.sub(r" -Wno-restrict| -Winvalid-pch| -include \S+/cmake_pch\.hxx", "", e["command"])
json.dump([e for f, e in sorted(entries.items()) if "/src/" in f and "/usr/src/" not in f], open(sys.argv[2], "w"))
PY
limits=()
for argument in -Xclang -analyzer-config -Xclang "max-nodes=$MAX_NODES"; do limits+=("--extra-arg=$argument"); done
python3 -c 'import json, sys; print(*(e["file"] for e in json.load(open(sys.argv[1]))), sep="\0", end="")' \
  "$scratch/compile_commands.json" |
  xargs -0 -r -n 1 -P "$JOBS" "$tidy" -p "$scratch" --quiet --warnings-as-errors='*' "${limits[@]}" 2>"$scratch/log" ||
  { grep -v 'warnings generated\|warnings treated' "$scratch/log" >&2 || true; exit 1; }
echo "clang-tidy: no findings"
