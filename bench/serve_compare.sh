#!/usr/bin/env bash
# Baize's server and llama.cpp's, in turn on the same file with the same load: bench/serve_compare.sh LLAMA_SERVER MODEL.gguf [ROUNDS]
# THREADS (2), STREAMS (32), REQUESTS (64), INPUT (128) and OUTPUT (64) tokens change the load. Prints what `baize bench serve`
# measured of each, alternating.
set -euo pipefail
readonly LLAMA=$1 MODEL=$2 ROUNDS=${3:-3} BAIZE=${BAIZE:-build/baize}
readonly THREADS=${THREADS:-2} STREAMS=${STREAMS:-32} REQUESTS=${REQUESTS:-64} INPUT=${INPUT:-128} OUTPUT=${OUTPUT:-64}
readonly CONTEXT=$((INPUT + OUTPUT + 64)) PORT=${PORT:-8201}

measure() {  # measure NAME SERVER...
  local name=$1 server
  shift
  "$@" >/dev/null 2>&1 &
  server=$!
  until curl --silent --fail "http://127.0.0.1:$PORT/health" >/dev/null; do kill -0 "$server" && sleep 0.1; done
  "$BAIZE" bench serve --url "http://127.0.0.1:$PORT" --requests "$REQUESTS" --concurrency "$STREAMS" --warmup 4 \
    --input-tokens "$INPUT" --output-tokens "$OUTPUT" | grep -E '^(requests  |output tokens/s|MILLISECONDS|TTFT|TPOT|E2E)' | sed "s/^/$name  /"
  kill "$server"
  wait "$server" || true
}

for ((round = 1; round <= ROUNDS; ++round)); do
  measure llama "$LLAMA" -m "$MODEL" -t "$THREADS" -tb "$THREADS" -np "$STREAMS" -c $((CONTEXT * STREAMS)) --host 127.0.0.1 --port "$PORT"
  measure baize "$BAIZE" serve "$MODEL" --threads "$THREADS" --parallel "$STREAMS" --ctx "$CONTEXT" --host 127.0.0.1 --port "$PORT"
done
