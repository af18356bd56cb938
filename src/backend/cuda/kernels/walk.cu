// See walk.h.
#include <cfloat>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/items.cuh"
#include "backend/cuda/kernels/rope.cuh"
#include "backend/cuda/kernels/walk.h"

namespace baize::cuda {

namespace {

constexpr int kWarps = 16;              // that compute; one more copies
constexpr int kThreads = kWarps * 32;
constexpr int kGroupWarps = 4;          // share a stage; the groups take turns
constexpr int kGroups = kWarps / kGroupWarps;
constexpr float kLog2E = 1.4426950408889634f;
constexpr int kStepWords = sizeof(WalkStep) / 4;
static_assert(sizeof(WalkStep) % 4 == 0 && kStepWords <= kThreads);

struct Control {
  uint64_t full[32], empty[32];
  WalkStep step[2];
  float reduce[33];
  unsigned start;
  int position;
};

// ---- barriers in shared memory (PTX mbarrier), bulk copies, and the barrier of the grid

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ void barrier_init(uint64_t* b, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count));
}
__device__ __forceinline__ void barrier_arrive(uint64_t* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ __forceinline__ void barrier_expect(uint64_t* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_wait(uint64_t* b, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@!p bra again;\n"
      "}" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void copy_bulk(void* to, const void* from, int bytes, uint64_t* b, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(b)), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void sync_compute() { asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory"); }

__device__ __forceinline__ void sync_grid(unsigned* counter, unsigned target) {
  sync_compute();
  // The barrier of the block and a release that is cumulative order what all threads wrote.
  if (threadIdx.x == 0) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
    unsigned seen;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
    } while (static_cast<int>(seen - target) < 0);
  }
  sync_compute();
}

// Eight bf16 written by another block: not through L1, which may hold older values.
__device__ __forceinline__ void load8_fresh(const void* p, int64_t i, float (&v)[8]) {
  unpack_bf16(__ldcg(reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p) + i)), v);
}

__device__ __forceinline__ float sum_compute(float v, float* reduce) {
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) reduce[threadIdx.x / 32] = v;
  sync_compute();
  float total = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) total += reduce[i];
  return total;
}

struct Rows {
  int begin, count;
};
__device__ __forceinline__ Rows my_rows(int n) {
  const int64_t blocks = gridDim.x, block = blockIdx.x;
  const int begin = static_cast<int>(n * block / blocks);
  return {begin, static_cast<int>(n * (block + 1) / blocks) - begin};
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

// ---- the input of a linear, as bf16 and quantised to 8 bits, in shared memory

struct Work {
  uint16_t* plain;   // [k]
  int8_t* q;         // [k]
  float2* scales;    // [k / 16]
};
__device__ __forceinline__ Work work_of(const WalkStep& step, uint8_t* work) {
  Work w;
  w.plain = reinterpret_cast<uint16_t*>(work);
  uint8_t* rest = work + (step.plain ? step.k * 2 : 0);
  w.q = reinterpret_cast<int8_t*>(rest);
  w.scales = reinterpret_cast<float2*>(rest + step.k);
  return w;
}

// Values [i, i + 8); a run of 16 belongs to two neighbouring lanes, both of which must call.
__device__ __forceinline__ void put8(const WalkStep& step, const Work& work, int i, const float (&v)[8]) {
  if (step.plain) store8(work.plain, DType::kBF16, i, v);
  if (!step.quantized) return;
  float top = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) top = fmaxf(top, fabsf(v[j]));
  top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
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

// How the keys that position sees are cut.
struct Cut {
  int first, keys, part_keys, parts;
};
__device__ __forceinline__ Cut cut_keys(int position, int window, int splits) {
  Cut c;
  c.first = window > 0 ? max(0, position - window + 1) : 0;
  c.keys = position + 1 - c.first;
  c.part_keys = max(kWalkMinKeys, (c.keys + splits - 1) / splits);
  c.parts = (c.keys + c.part_keys - 1) / c.part_keys;
  return c;
}

// Elements [i, i + 8) of the attention's result, merged from its parts.
__device__ __forceinline__ void merge8(const WalkArgs& a, int parts, int i, float (&v)[8]) {
  const int head = i / a.head_dim, d = i % a.head_dim;
  const float* acc = a.partial + static_cast<int64_t>(head) * a.splits * a.head_dim + d;
  const auto* ml = reinterpret_cast<const float2*>(a.partial + static_cast<int64_t>(a.heads) * a.splits * a.head_dim) +
                   head * a.splits;
  constexpr int kBatch = 4;  // parts whose loads are in flight together
  float top = -FLT_MAX, sum = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) v[j] = 0;
  for (int first = 0; first < parts; first += kBatch) {
    float2 part[kBatch];
    float4 x0[kBatch], x1[kBatch];
#pragma unroll
    for (int p = 0; p < kBatch; ++p) {
      const int at = min(first + p, parts - 1);
      part[p] = __ldcg(ml + at);
      x0[p] = __ldcg(reinterpret_cast<const float4*>(acc + at * a.head_dim));
      x1[p] = __ldcg(reinterpret_cast<const float4*>(acc + at * a.head_dim) + 1);
    }
#pragma unroll
    for (int p = 0; p < kBatch; ++p) {
      if (first + p >= parts) break;
      const float x[8] = {x0[p].x, x0[p].y, x0[p].z, x0[p].w, x1[p].x, x1[p].y, x1[p].z, x1[p].w};
      const float next = fmaxf(top, part[p].x);
      const float keep = exp2f((top - next) * kLog2E), add = exp2f((part[p].x - next) * kLog2E);
      top = next;
      sum = sum * keep + part[p].y * add;
#pragma unroll
      for (int j = 0; j < 8; ++j) v[j] = v[j] * keep + x[j] * add;
    }
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) v[j] /= sum;
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
  } else {
    return item_dot(load_item<kType, true>(unit, lane), work.q + k0, work.scales + k0 / kRun);
  }
}

// The sums of all units of this block's rows, one slot a unit.
template <GgufType kType>
__device__ __forceinline__ void multiply(const WalkPart& part, int rows, const Work& work, float* slots, Ring& state,
                                         Control& control) {
  constexpr int kUnitBytes = walk_unit_bytes(kType), kStageUnits = walk_stage_units(kType);
  constexpr int kEach = kStageUnits / kGroupWarps, kTogether = 2;  // units of a warp, and whose loads overlap
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

__device__ __forceinline__ float activate(float g, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return g / (1.0f + __expf(-g));
    case Activation::kGelu:
      return 0.5f * g * (1.0f + erff(g * 0.70710678118654752f));
    case Activation::kGeluTanh:
      return 0.5f * g * (1.0f + tanhf(0.79788456080286536f * (g + 0.044715f * g * g * g)));
    case Activation::kRelu:
      return fmaxf(g, 0.0f);
  }
  return 0;
}

__device__ __forceinline__ float row_result(const WalkPart& part, const float* slots, int row, int column) {
  float sum = 0;
  for (int u = 0; u < part.units; ++u) sum += slots[row * part.units + u];
  return part.alpha * sum + (part.bias != nullptr ? part.bias[column] : 0.0f);
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
      const float g = row_result(gate, slots, i, rows.begin + i);
      const float u = row_result(up, slots + rows.count * gate.units, i, rows.begin + i);
      store1(gate.out, gate.out_dtype, rows.begin + i, activate(g, step.activation) * u);
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

// ---- attention: a block takes one part of the keys of one key head, all of its query heads

// A lane's share of the keys and values that its warp looks at together.
template <int kDim>
struct KeyTile {
  static constexpr int kLanes = kDim / 8, kKeys = 32 / kLanes, kUnroll = 2, kStep = kWarps * kKeys;
  uint4 k[kUnroll], v[kUnroll];

  __device__ __forceinline__ void load(const Paged& kv, int kv_head, int t0, int end) {
    const int within = threadIdx.x % 32 % kLanes * 8;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int t = min(t0 + u * kStep, end - 1);
      const int64_t page = kv.table[t / kv.block], slot = t % kv.block;
      k[u] = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(kv.k) + page * kv.k_page + slot * kv.k_token +
                                             kv_head * kv.k_head + within);
      v[u] = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(kv.v) + page * kv.v_page + slot * kv.v_token +
                                             kv_head * kv.v_head + within);
    }
  }
};

// `tile` holds the first keys already. `newest`: key and value of this row, which the cache may not show yet.
template <int kDim>
__device__ void attend_part(const WalkArgs& a, const WalkStep& step, int kv_head, int part, const Cut& cut, int head0,
                            int heads, KeyTile<kDim>& tile, const float* q_shared, const float* newest, float* merge) {
  using Tile = KeyTile<kDim>;
  constexpr int E = 8, kLanes = Tile::kLanes, kKeys = Tile::kKeys, U = Tile::kUnroll, kStep = Tile::kStep;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int within = lane % kLanes, key_of_warp = lane / kLanes;
  const int begin = cut.first + part * cut.part_keys;
  const int end = min(begin + cut.part_keys, cut.first + cut.keys);
  const int position = cut.first + cut.keys - 1;
  float acc[kWalkGroup][E], m[kWalkGroup], l[kWalkGroup];
#pragma unroll
  for (int g = 0; g < kWalkGroup; ++g) {
    m[g] = -FLT_MAX;
    l[g] = 0;
#pragma unroll
    for (int e = 0; e < E; ++e) acc[g][e] = 0;
  }
  for (int t0 = begin + warp * kKeys + key_of_warp; t0 - key_of_warp < end; t0 += kStep * U) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int t = t0 + u * kStep;
      float k[E], v[E];
      if (t == position) {
        load8(newest, DType::kF32, within * E, k);
        load8(newest, DType::kF32, kDim + within * E, v);
      } else {
        unpack_bf16(tile.k[u], k);
        unpack_bf16(tile.v[u], v);
      }
      const bool seen = t < end;
#pragma unroll
      for (int g = 0; g < kWalkGroup; ++g) {
        if (g >= heads) break;
        float q[E], s = 0;
        load8(q_shared, DType::kF32, g * kDim + within * E, q);
#pragma unroll
        for (int e = 0; e < E; ++e) s += q[e] * k[e];
#pragma unroll
        for (int o = kLanes / 2; o > 0; o >>= 1) s += __shfl_xor_sync(~0u, s, o);
        s *= step.scale;
        if (step.score_softcap > 0) s = step.score_softcap * tanhf(s / step.score_softcap);
        const float top = seen ? fmaxf(m[g], s) : m[g];
        const float keep = exp2f((m[g] - top) * kLog2E), p = seen ? exp2f((s - top) * kLog2E) : 0.0f;
        m[g] = top;
        l[g] = l[g] * keep + p;
#pragma unroll
        for (int e = 0; e < E; ++e) acc[g][e] = acc[g][e] * keep + p * v[e];
      }
    }
    if (t0 - key_of_warp + kStep * U < end) tile.load(step.kv, kv_head, t0 + kStep * U, end);
  }
  float* merge_acc = merge;                                             // [warps][heads][kDim]
  float2* merge_ml = reinterpret_cast<float2*>(merge + kWarps * kWalkGroup * kDim);  // [warps][heads]
#pragma unroll
  for (int g = 0; g < kWalkGroup; ++g) {
    if (g >= heads) break;
#pragma unroll
    for (int o = kLanes; o < 32; o <<= 1) {
      const float m1 = __shfl_xor_sync(~0u, m[g], o), l1 = __shfl_xor_sync(~0u, l[g], o);
      const float top = fmaxf(m[g], m1);
      const float keep = exp2f((m[g] - top) * kLog2E), add = exp2f((m1 - top) * kLog2E);
      m[g] = top;
      l[g] = l[g] * keep + l1 * add;
#pragma unroll
      for (int e = 0; e < E; ++e) acc[g][e] = acc[g][e] * keep + __shfl_xor_sync(~0u, acc[g][e], o) * add;
    }
    if (key_of_warp == 0) {
      store8(merge_acc, DType::kF32, (warp * kWalkGroup + g) * kDim + within * E, acc[g]);
      if (within == 0) merge_ml[warp * kWalkGroup + g] = make_float2(m[g], l[g]);
    }
  }
  sync_compute();
  for (int i = threadIdx.x; i < heads * kDim; i += kThreads) {
    const int g = i / kDim, d = i % kDim;
    float top = -FLT_MAX, sum = 0, total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, merge_ml[w * kWalkGroup + g].x);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float2 ml = merge_ml[w * kWalkGroup + g];
      const float keep = exp2f((ml.x - top) * kLog2E);
      sum += merge_acc[(w * kWalkGroup + g) * kDim + d] * keep;
      total += ml.y * keep;
    }
    const int64_t at = static_cast<int64_t>(head0 + g) * a.splits + part;
    a.partial[at * kDim + d] = sum;
    if (d == 0) {
      reinterpret_cast<float2*>(a.partial + static_cast<int64_t>(a.heads) * a.splits * kDim)[at] = make_float2(top, total);
    }
  }
  sync_compute();
}

template <int kDim>
__device__ void run_attention(const WalkArgs& a, const WalkStep& step, uint8_t* memory, int position) {
  const Cut cut = cut_keys(position, step.window, a.splits);
  const int kv_head = blockIdx.x / a.splits, part = blockIdx.x % a.splits;
  if (kv_head >= step.kv_heads || part >= cut.parts) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Paged& kv = step.kv;
  const int begin = cut.first + part * cut.part_keys, end = min(begin + cut.part_keys, position + 1);
  const int t0 = begin + warp * KeyTile<kDim>::kKeys + lane / KeyTile<kDim>::kLanes;
  KeyTile<kDim> tile;
  tile.load(kv, kv_head, t0, end);  // while the queries are made ready
  float* heads = reinterpret_cast<float*>(memory + a.at_work);  // [group + 2, kDim]: queries, new key, new value
  const bool newest = part == cut.parts - 1;                    // sees this row's key and value, and stores them
  if (warp < step.group + (newest ? 2 : 0)) {
    const int kind = warp < step.group ? 0 : warp - step.group + 1;
    const int column = kind == 0   ? kv_head * step.group + warp
                       : kind == 1 ? a.heads + kv_head
                                   : a.heads + step.kv_heads + kv_head;
    float* x = heads + warp * kDim;
    float squares = 0;
    const auto* from = reinterpret_cast<const unsigned short*>(step.qkv) + column * kDim + lane;
    unsigned short raw[kDim / 32];
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) raw[i] = __ldcg(from + i * 32);
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) {
      x[lane + i * 32] = bf16_lo(raw[i]);
      squares += bf16_lo(raw[i]) * bf16_lo(raw[i]);
    }
    __syncwarp();
    if (kind < 2) {
      norm_and_rotate(x, squares, lane, kDim, kind == 0 ? step.q_norm : step.k_norm, step.rope, position, position + 1);
    }
    __syncwarp();
    for (int i = lane; i < kDim; i += 32) x[i] = __bfloat162float(__float2bfloat16_rn(x[i]));  // as kept elsewhere
    if (kind > 0) {
      const int64_t page = kv.table[position / kv.block], slot = position % kv.block;
      auto* to = kind == 1 ? static_cast<__nv_bfloat16*>(kv.k) + page * kv.k_page + slot * kv.k_token + kv_head * kv.k_head
                           : static_cast<__nv_bfloat16*>(kv.v) + page * kv.v_page + slot * kv.v_token + kv_head * kv.v_head;
      for (int i = lane; i < kDim; i += 32) to[i] = __float2bfloat16_rn(x[i]);
    }
  }
  sync_compute();
  const float* new_kv = heads + step.group * kDim;
  float* merge = heads + (step.group + 2) * kDim;
  for (int g = 0; g < step.group; g += kWalkGroup) {
    if (g > 0) tile.load(kv, kv_head, t0, end);
    attend_part<kDim>(a, step, kv_head, part, cut, kv_head * step.group + g, min(kWalkGroup, step.group - g), tile,
                      heads + g * kDim, new_kv, merge);
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
    if (s < a.count && threadIdx.x < kStepWords) next_word = reinterpret_cast<const uint32_t*>(a.steps + s)[threadIdx.x];
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
