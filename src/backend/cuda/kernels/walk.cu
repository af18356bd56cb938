// See walk.h.
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/fp8.cuh"
#include "backend/cuda/kernels/items.cuh"
#include "backend/cuda/kernels/walk_attention.cuh"
#include "backend/cuda/kernels/walk_shared.cuh"

namespace baize::cuda {

namespace {

struct Rows {
  int begin, count;
};
__device__ __forceinline__ Rows my_rows(int n) {
  const unsigned all = static_cast<unsigned>(n);  // times the number of blocks: below 2^32 (walk_plan.cc)
  const unsigned begin = all * blockIdx.x / gridDim.x;
  return {static_cast<int>(begin), static_cast<int>(all * (blockIdx.x + 1) / gridDim.x - begin)};
}

// ---- the copying warp

// Each lane looks up one part of the next 32, so that no copy waits for a description.
__device__ void stream_weights(const WalkArgs& a, Control& control, uint8_t* ring) {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  const int lane = threadIdx.x % 32;
  int slot = 0, parity = 1, issued = 0;  // the first round of waits passes at once
  for (int first = 0; first < a.stream_count; first += 32) {
    unsigned long long my_from = 0;
    int my_bytes = 0, my_chunk = 0;
    if (first + lane < a.stream_count) {
      const WalkStream stream = a.streams[first + lane];
      const Rows rows = my_rows(stream.n);
      my_from = reinterpret_cast<unsigned long long>(stream.w) +
                static_cast<unsigned long long>(rows.begin) * static_cast<unsigned>(stream.row_bytes);
      my_bytes = rows.count * stream.row_bytes;
      my_chunk = stream.chunk_bytes;
    }
    for (int i = 0; i < min(32, a.stream_count - first); ++i) {
      const auto from = reinterpret_cast<const uint8_t*>(__shfl_sync(~0u, my_from, i));
      const int total = __shfl_sync(~0u, my_bytes, i), chunk = __shfl_sync(~0u, my_chunk, i);
      for (int at = 0; at < total; at += chunk) {
        if (lane == 0) {
          const int bytes = min(chunk, total - at);
          barrier_wait(&control.empty[slot], parity);
          // Few copies under way keep memory busy; more would only make everyone's small loads queue behind them.
          if (issued >= a.depth) {
            const int old = slot - a.depth;
            barrier_wait(&control.full[old < 0 ? old + a.stages : old], old < 0 ? parity : parity ^ 1);
          }
          barrier_expect(&control.full[slot], bytes);
          copy_bulk(ring + slot * kWalkStageBytes, from + at, bytes, &control.full[slot], policy);
        }
        ++issued;
        if (++slot == a.stages) {
          slot = 0;
          parity ^= 1;
        }
      }
    }
  }
}

// ---- the input of a linear, as bf16, quantised to 8 bits, and as halves beside the largest of 16, in shared memory

struct Work {
  uint16_t* plain;   // [k]
  int8_t* q;         // [k]
  float2* scales;    // [k / 16]
  uint16_t* halves;  // [k / 512][2][32][8]: of each 16 the first eight, then the others, so that lanes meet other banks
  float* tops;       // [k / 16]
};
__device__ __forceinline__ Work work_of(const WalkStep& step, uint8_t* work) {
  Work w;
  w.plain = reinterpret_cast<uint16_t*>(work);
  uint8_t* rest = work + (step.plain ? step.k * 2 : 0);
  w.q = reinterpret_cast<int8_t*>(rest);
  w.scales = reinterpret_cast<float2*>(rest + step.k);
  rest += step.quantized ? step.k + step.k / 2 : 0;
  w.halves = reinterpret_cast<uint16_t*>(rest);
  w.tops = reinterpret_cast<float*>(rest + 2 * step.k);
  return w;
}

// Values [i, i + 8); a run of 16 belongs to two neighbouring lanes, both of which must call.
__device__ __forceinline__ void put8(const WalkStep& step, const Work& work, int i, const float (&v)[8]) {
  if (step.plain) store8(work.plain, DType::kBF16, i, v);
  if (!step.quantized && !step.halved) return;
  float top = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) top = fmaxf(top, fabsf(v[j]));
  top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
  if (step.halved) {
    float part[8];
    const float inverse = top > 0 ? 1.0f / top : 0.0f;
#pragma unroll
    for (int j = 0; j < 8; ++j) part[j] = v[j] * inverse;
    store8(work.halves, DType::kF16, i / 512 * 512 + i % 16 / 8 * 256 + i % 512 / 16 * 8, part);
    if (i % 16 == 0) work.tops[i / 16] = top;
  }
  if (!step.quantized) return;
  const float inverse = top > 0 ? 127.0f / top : 0.0f;
  int sum = 0;
  uint32_t words[2] = {};
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const int n = __float2int_rn(v[j] * inverse);
    sum += n;
    words[j / 4] |= static_cast<uint32_t>(n & 255) << j % 4 * 8;
  }
  sum += __shfl_xor_sync(~0u, sum, 1);
  *reinterpret_cast<uint2*>(work.q + i) = make_uint2(words[0], words[1]);
  if (i % kRun == 0) work.scales[i / kRun] = make_float2(top / 127.0f, top / 127.0f * static_cast<float>(sum));
}

// Every block makes the whole input for itself. All lanes of a warp stay in the loops together: k is a multiple of 256.
__device__ void prepare_input(const WalkArgs& a, const WalkStep& step, const WalkStep& before, uint8_t* memory,
                              Control& control) {
  const Work work = work_of(step, memory + a.at_work);
  constexpr int kStride = kThreads * 8;
  float v[8];
  if (step.input == WalkInput::kCopy) {
    constexpr int kBatch = 4;
    for (int first = threadIdx.x * 8; first < step.k; first += kBatch * kStride) {
      uint4 raw[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int i = first + j * kStride;
        if (i < step.k) raw[j] = __ldcg(reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(step.x) + i));
      }
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int i = first + j * kStride;
        if (i >= step.k) break;
        unpack_bf16(raw[j], v);
        put8(step, work, i, v);
      }
    }
    sync_compute();
    return;
  }
  if (step.input == WalkInput::kAttended) {
    const int parts = cut_keys(control.position, before.window, a.splits).parts;
    for (int i = threadIdx.x * 8; i < step.k; i += kStride) {
      merge8(a, parts, i, v);
      put8(step, work, i, v);
    }
    sync_compute();
    return;
  }
  float* residual = reinterpret_cast<float*>(memory + a.at_residual);
  float w[8], squares = 0;
  const int mine = threadIdx.x * 8;  // the first values of this thread stay in registers
  if (mine < step.k) load8(step.norm_weight, DType::kF32, mine, w);
  for (int i = mine; i < step.k; i += kStride) {
    float x[8];
    if (step.input == WalkInput::kStart) {
      load8(step.x, DType::kF32, i, x);
    } else {
      float r[8];
      load8_fresh(step.x, i, x);
      load8(residual, DType::kF32, i, r);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[j] += r[j];
    }
    store8(residual, DType::kF32, i, x);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      squares += x[j] * x[j];
      if (i == mine) v[j] = x[j];
    }
  }
  const float scale = rsqrtf(sum_compute(squares, control.reduce) / static_cast<float>(step.k) + step.norm_eps);
  for (int i = mine; i < step.k; i += kStride) {
    if (i != mine) {
      load8(step.norm_weight, DType::kF32, i, w);
      load8(residual, DType::kF32, i, v);
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] *= scale * w[j];
    put8(step, work, i, v);
  }
  sync_compute();
}

// For traces: what this block was doing when.
__device__ __forceinline__ void mark(const WalkArgs& a, int step, int what) {
  if (a.trace != nullptr && threadIdx.x == 0) a.trace[(blockIdx.x * a.count + step) * 4 + what] = clock64();
}

// ---- products

struct Ring {
  uint8_t* memory;
  int stages;
  int slot = 0, parity = 0, turn = 0;

  __device__ void next() {
    turn = (turn + 1) % kGroups;
    if (++slot == stages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

template <GgufType kType>
__device__ __forceinline__ float unit_dot(const uint8_t* unit, const Work& work, int k0, int lane) {
  if constexpr (kType == GgufType::kBF16) {
    float sum[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float w[8], x[8];
      unpack_bf16(wide_at(unit + j * 512 + lane * 16), w);
      unpack_bf16(*reinterpret_cast<const uint4*>(work.plain + k0 + j * 256 + lane * 8), x);
      sum[j] = 0;
#pragma unroll
      for (int e = 0; e < 8; ++e) sum[j] += w[e] * x[e];
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
  } else if constexpr (kType == kWalkFp8) {
    // Sums of eight products of magnitudes up to 448 in halves, then by the largest of their 16 in f32.
    float sum[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const uint4 raw = wide_at(unit + j * 512 + lane * 16);
      const uint32_t w[4] = {raw.x, raw.y, raw.z, raw.w};
      __half2 part[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint4 halves = *reinterpret_cast<const uint4*>(work.halves + k0 + j * 512 + h * 256 + lane * 8);
        const uint32_t x[4] = {halves.x, halves.y, halves.z, halves.w};
        const auto pair = [&](int i) { return *reinterpret_cast<const __half2*>(&x[i]); };
        part[h] = __hmul2(halves_of_e4m3(w[2 * h]), pair(0));
        part[h] = __hfma2(halves_of_e4m3(w[2 * h] >> 16), pair(1), part[h]);
        part[h] = __hfma2(halves_of_e4m3(w[2 * h + 1]), pair(2), part[h]);
        part[h] = __hfma2(halves_of_e4m3(w[2 * h + 1] >> 16), pair(3), part[h]);
      }
      const float2 all = __half22float2(__hadd2(part[0], part[1]));
      sum[j] = work.tops[(k0 + j * 512) / 16 + lane] * (all.x + all.y);
    }
    return sum[0] + sum[1];
  } else {
    return item_dot(load_item<kType, true>(unit, lane), work.q + k0, work.scales + k0 / kRun);
  }
}

// The sums of all units of this block's rows, one slot a unit.
template <GgufType kType>
__device__ __forceinline__ void multiply(const WalkPart& part, int rows, const Work& work, float* slots, Ring& state,
                                         Control& control) {
  constexpr int kUnitBytes = walk_unit_bytes(kType), kStageUnits = walk_stage_units(kType);
  constexpr int kEach = kStageUnits / kGroupWarps;      // units of a warp
  constexpr int kTogether = kType == kWalkFp8 ? 4 : 2;  // whose loads overlap
  static_assert(kEach % kTogether == 0);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int group = warp / kGroupWarps, member = warp % kGroupWarps;
  const unsigned per_row = static_cast<unsigned>(part.units);
  const bool power = (per_row & (per_row - 1)) == 0;
  const int units = rows * part.units;
  Ring ring = state;
  for (int first = 0; first < units; first += kStageUnits, ring.next()) {
    if (ring.turn != group) continue;
    const uint8_t* stage = ring.memory + ring.slot * kWalkStageBytes;
    const int end = min(kStageUnits, units - first);
    barrier_wait(&control.full[ring.slot], ring.parity);
#pragma unroll
    for (int j = 0; j < kEach; j += kTogether) {
      float sum[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int u = min((j + i) * kGroupWarps + member, end - 1);
        const unsigned at = static_cast<unsigned>(first + u);
        const int k0 = static_cast<int>(power ? at & (per_row - 1) : at % per_row) * kUnitWeights;
        sum[i] = unit_dot<kType>(stage + u * kUnitBytes, work, k0, lane);
      }
#pragma unroll
      for (int o = 16; o > 0; o >>= 1) {
#pragma unroll
        for (int i = 0; i < kTogether; ++i) sum[i] += __shfl_xor_sync(~0u, sum[i], o);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int u = (j + i) * kGroupWarps + member;
        if (lane == 0 && u < end) slots[first + u] = sum[i];
      }
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(&control.empty[ring.slot]);
  }
  state = ring;
}

__device__ __forceinline__ float row_result(const WalkPart& part, const float* slots, int row, int column) {
  const float scale = part.scales != nullptr ? part.alpha * part.scales[column] : part.alpha;
  float sum = 0;
  for (int u = 0; u < part.units; ++u) sum += slots[row * part.units + u];
  return scale * sum + (part.bias != nullptr ? part.bias[column] : 0.0f);
}

__device__ void run_linear(const WalkArgs& a, int s, uint8_t* memory, Ring& ring, Control& control) {
  const WalkStep& step = control.step[s % 2];
  prepare_input(a, step, control.step[(s + 1) % 2], memory, control);
  mark(a, s, 1);
  const Work work = work_of(step, memory + a.at_work);
  float* slots = reinterpret_cast<float*>(memory + a.at_slots);
  float* next = slots;
  for (int p = 0; p < step.parts; ++p) {
    const WalkPart& part = step.part[p];
    const int rows = my_rows(part.n).count;
    switch (part.type) {
      case GgufType::kBF16:
        multiply<GgufType::kBF16>(part, rows, work, next, ring, control);
        break;
      case kWalkFp8:
        multiply<kWalkFp8>(part, rows, work, next, ring, control);
        break;
      case GgufType::kQ4_0:
        multiply<GgufType::kQ4_0>(part, rows, work, next, ring, control);
        break;
      case GgufType::kQ8_0:
        multiply<GgufType::kQ8_0>(part, rows, work, next, ring, control);
        break;
      case GgufType::kQ4_K:
        multiply<GgufType::kQ4_K>(part, rows, work, next, ring, control);
        break;
      case GgufType::kQ5_K:
        multiply<GgufType::kQ5_K>(part, rows, work, next, ring, control);
        break;
      default:
        multiply<GgufType::kQ6_K>(part, rows, work, next, ring, control);
        break;
    }
    next += rows * part.units;
  }
  sync_compute();
  mark(a, s, 2);
  next = slots;
  if (step.gated) {
    const WalkPart &gate = step.part[0], &up = step.part[1];
    const Rows rows = my_rows(gate.n);
    for (int i = threadIdx.x; i < rows.count; i += kThreads) {
      const int column = rows.begin + i;
      const float g = row_result(gate, slots, i, column);
      const float u = row_result(up, slots + rows.count * gate.units, i, column);
      store1(gate.out, gate.out_dtype, column, gate_of(g, step.activation) * u);
    }
    return;
  }
  for (int p = 0; p < step.parts; ++p) {
    const WalkPart& part = step.part[p];
    const Rows rows = my_rows(part.n);
    for (int i = threadIdx.x; i < rows.count; i += kThreads) {
      float v = row_result(part, next, i, rows.begin + i);
      if (step.softcap > 0) v = step.softcap * tanhf(v / step.softcap);
      store1(part.out, part.out_dtype, rows.begin + i, v);
    }
    next += rows.count * part.units;
  }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads + 32, 1) walk_kernel(const __grid_constant__ WalkArgs a) {
  extern __shared__ __align__(1024) uint8_t memory[];
  __shared__ Control control;
  if (threadIdx.x == 0) {
    for (int i = 0; i < a.stages; ++i) {
      barrier_init(&control.full[i], 1);
      barrier_init(&control.empty[i], kGroupWarps);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x >= kThreads) {
    stream_weights(a, control, memory);
    return;
  }
  // Steps are fetched one ahead, a word a thread.
  uint32_t next_word = 0;
  const auto fetch_step = [&](int s) {
    if (s < a.count && threadIdx.x < kStepWords)
      next_word = reinterpret_cast<const uint32_t*>(a.steps + s)[threadIdx.x];
  };
  const auto keep_step = [&](int s) {
    if (threadIdx.x < kStepWords) reinterpret_cast<uint32_t*>(&control.step[s % 2])[threadIdx.x] = next_word;
  };
  fetch_step(0);
  keep_step(0);
  pdl_wait();
  if (threadIdx.x == 0) {
    control.start = __ldcg(a.barrier + 1);
    control.position = *a.position;
  }
  sync_compute();
  unsigned target = control.start;
  Ring ring{memory, a.stages};
  for (int s = 0; s < a.count; ++s) {
    const WalkStep& step = control.step[s % 2];
    mark(a, s, 0);
    fetch_step(s + 1);
    if (step.kind == WalkKind::kLinear) {
      run_linear(a, s, memory, ring, control);
    } else {
      run_attention<kDim>(a, step, memory, control.position);
    }
    if (s + 1 == a.count) break;
    keep_step(s + 1);  // over the step before, which only the input of this one looked at
    target += gridDim.x;
    sync_grid(a.barrier, target);
    mark(a, s, 3);
  }
  pdl_launch();
  if (blockIdx.x == 0 && threadIdx.x == 0) a.barrier[1] = target;  // every block read it before the first barrier
}

}  // namespace

bool walk_supports(GgufType type, int head_dim) {
  switch (type) {
    case GgufType::kBF16:
    case kWalkFp8:
    case GgufType::kQ4_0:
    case GgufType::kQ8_0:
    case GgufType::kQ4_K:
    case GgufType::kQ5_K:
    case GgufType::kQ6_K:
      return head_dim == 64 || head_dim == 128;
    default:
      return false;
  }
}

int walk_shared_bytes() { return 227 * 1024 - static_cast<int>(sizeof(Control)) - 1024; }

void walk(cudaStream_t stream, const WalkArgs& args, int sms) {
  auto* kernel = args.head_dim == 64 ? walk_kernel<64> : walk_kernel<128>;
  static const bool raised = [] {
    for (auto* k : {walk_kernel<64>, walk_kernel<128>}) {
      check(cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, walk_shared_bytes()),
            "reserve shared memory");
    }
    return true;
  }();
  (void)raised;
  launch("walk a step", kernel, dim3(static_cast<unsigned>(sms)), dim3(kThreads + 32),
         static_cast<size_t>(walk_shared_bytes()), stream, args);
}

}  // namespace baize::cuda
