#!/usr/bin/env bash
# Device tests and benchmarks of the CUDA backend, from a build folder, on a machine with an NVIDIA GPU:
#   tools/gpu_check.sh BUILD OUT [PART...]
# Parts, each under 9 minutes, correctness first (default: all but serve): ops (every op against the reference), golden (the
# golden cases of the families), decode, prefill (speed, % of the floor), experts (both of 30B-A3B), times (what each op of a
# step costs), serve (MODEL names a folder or GGUF file: the service under load). One file a part is written to OUT; a
# short table comes last.
# BUILD needs tests/cuda_test and cuda_bench (and baize with libbaize_cuda.so for serve), and goldens/hf or BAIZE_GOLDENS.
set -uo pipefail
readonly BUILD=$(cd "$1" && pwd) OUT=$2
shift 2
mkdir -p "$OUT"
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}:/usr/local/cuda/lib64 BAIZE_GOLDENS=${BAIZE_GOLDENS:-$BUILD/goldens/hf}
readonly PORT=${PORT:-8123}
failed=0

tests() {  # FILTER
  timeout 500 "$BUILD/tests/cuda_test" --gtest_filter="$1"
}
bench() {
  timeout 250 "$BUILD/cuda_bench" "$@"
}

part_ops() { tests '-*Golden*'; }
part_golden() { tests '*Golden*'; }
part_decode() {
  bench 8b --decode 1,8,64,256 --prefill '' && bench 1b --decode 1,64,256 --prefill '' &&
    bench 8b-q4km --decode 1 --prefill ''
}
part_prefill() {
  bench 8b --decode '' --prefill 16,4096 && bench 8b --decode '' --prefill 512 --prompts 512 &&
    bench 1b --decode '' --prefill 4096 --prompts 8 && bench 8b-q4km --decode '' --prefill 4096
}
part_experts() {
  bench 30b-a3b --decode 1,8,64,256 --prompts 8 --prefill 4096
}
part_times() {
  BAIZE_CUDA_TIMES=$OUT/times_64.txt bench 8b --decode 64 --prefill '' --tokens 16 &&
    BAIZE_CUDA_TIMES=$OUT/times_4096.txt bench 8b --decode '' --prefill 4096
}
part_serve() {
  "$BUILD/baize" serve "${MODEL:?names the model to serve}" --backend cuda --ctx 4096 --port "$PORT" &
  local server=$! status=0
  for _ in $(seq 1200); do curl -s "localhost:$PORT/health" > /dev/null && break; sleep 0.1; done
  for load in '1 8' '64 256' '256 768'; do
    read -r streams requests <<< "$load"
    timeout 100 "$BUILD/baize" bench serve --url "http://127.0.0.1:$PORT" --endpoint completions --input-tokens 512 \
      --output-tokens 128 --concurrency "$streams" --requests "$requests" --warmup "$streams" || status=1
  done
  kill "$server"
  wait "$server" || status=1
  return $status
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(ops golden decode prefill experts times)
table=()
for part in "${parts[@]}"; do
  start=$SECONDS
  if ! declare -F "part_$part" > /dev/null; then
    echo "gpu_check: no part $part; the parts are ops, golden, decode, prefill, experts, times, serve" >&2
    exit 2
  fi
  "part_$part" > "$OUT/$part.txt" 2>&1 && said=ok || { said=FAILED; failed=1; }
  table+=("$(printf '%-8s %-7s %4d s' "$part" "$said" $((SECONDS - start)))")
done
for part in "${parts[@]}"; do grep -hE '^\[  (FAILED|PASSED)|cases passed|tok/s|^output tokens/s|^(TTFT|ITL) ' "$OUT/$part.txt"; done
printf '%s\n' "${table[@]}"
exit $failed
