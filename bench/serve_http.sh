#!/usr/bin/env bash
# What the service costs beside the model: a model of one tiny layer, one compute thread, the client on the same machine.
# bench/serve_http.sh [BAIZE] prints requests of one token a second, streamed tokens a second, and the server's processor time.
set -euo pipefail
readonly BAIZE=${1:-build/baize} PORT=${PORT:-8202}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
.venv/bin/python tools/make_gguf.py random "$scratch/one.gguf" --shape tiny --mix F32 --layers 1 --hidden 32 --ffn 64 --heads 2 --kv-heads 1 --head-dim 16 --vocab 512 >/dev/null
"$BAIZE" serve "$scratch/one.gguf" --threads 1 --parallel 64 --ctx 512 --port "$PORT" >/dev/null &
server=$!
until curl --silent --fail "http://127.0.0.1:$PORT/health" >/dev/null; do kill -0 "$server" && sleep 0.1; done
ticks() { awk '{print $14 + $15}' "/proc/$server/stat"; }
for load in "--requests 10000 --output-tokens 1" "--requests 2000 --output-tokens 200"; do
  before=$(ticks)
  # shellcheck disable=SC2086
  "$BAIZE" bench serve --url "http://127.0.0.1:$PORT" --endpoint completions --concurrency 64 --input-tokens 8 $load |
    grep -E '^(requests|output tokens|TTFT|ITL)'
  echo "server processor time  $(($(ticks) - before))0 ms"
done
kill "$server"
wait "$server" || true
