#!/usr/bin/env bash
# clang-tidy over the files of src/ that BUILD compiles: tools/tidy.sh BUILD [JOBS]. Any finding fails.
# A kernel file that is compiled for several instruction sets is looked at once, in its widest variant.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly BUILD=$1 JOBS=${2:-2}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 - "$BUILD/compile_commands.json" "$scratch/compile_commands.json" <<'PY'
import json, sys
entries = {e["file"]: e for e in json.load(open(sys.argv[1]))}  # the last variant of a file stays
for e in entries.values():
    e["command"] = e["command"].replace(" -Wno-restrict", "")
json.dump([e for f, e in sorted(entries.items()) if "/src/" in f and "/usr/src/" not in f], open(sys.argv[2], "w"))
PY
python3 -c 'import json, sys; print(*(e["file"] for e in json.load(open(sys.argv[1]))), sep="\0", end="")' \
  "$scratch/compile_commands.json" |
  xargs -0 -r -n 1 -P "$JOBS" clang-tidy-19 -p "$scratch" --quiet --warnings-as-errors='*' 2>"$scratch/log" ||
  { grep -v 'warnings generated\|warnings treated' "$scratch/log" >&2 || true; exit 1; }
echo "clang-tidy: no findings"
