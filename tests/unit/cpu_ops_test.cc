// Every op of the CPU backend, in every variant this machine runs, against the scalar reference over the shared shapes.
#include <gtest/gtest.h>

#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/ref/ref_backend.h"
#include "unit/op_step.h"

namespace baize {
namespace {

using namespace op_test;

struct Variant {
  cpu::Isa isa;
  int threads;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  for (const cpu::Isa isa : cpu::usable_isas()) {
    all.push_back({isa, 1});
    all.push_back({isa, 3});
  }
  return all;
}

std::string variant_name(const testing::TestParamInfo<Variant>& info) {
  return std::string(cpu::to_string(info.param.isa)) + "_" + std::to_string(info.param.threads);
}

class CpuOps : public testing::TestWithParam<Variant> {
 protected:
  std::unique_ptr<Backend> cpu_ = make_cpu_backend(GetParam().threads, GetParam().isa);
  std::unique_ptr<Backend> ref_ = make_ref_backend();
};
INSTANTIATE_TEST_SUITE_P(Isa, CpuOps, testing::ValuesIn(variants()), variant_name);

TEST_P(CpuOps, NormMatches) {
  for (const auto& [rows, width] : row_cases()) {
    const HostTensor x = random_tensor({rows, width}, 1, 3), weight = random_tensor({width}, 2);
    const HostTensor got(DType::kF32, {rows, width}), want(DType::kF32, {rows, width});
    const Norm norm{weight, 1e-5f};
    run_step(*cpu_, rows_step(rows), [&](Ops& ops) { ops.norm(x, norm, got); });
    run_step(*ref_, rows_step(rows), [&](Ops& ops) { ops.norm(x, norm, want); });
    EXPECT_LT(nmse(got.values(), want.values()), 1e-13) << rows << " x " << width;
  }
}

TEST_P(CpuOps, NormInPlaceAndOfStridedRows) {
  const HostTensor x = random_tensor({20, 300}, 1), weight = random_tensor({100}, 2);
  const HostTensor want(DType::kF32, {20, 100});
  const Norm norm{weight, 1e-6f};
  const Tensor part = x.view().columns(150, 100);
  run_step(*ref_, rows_step(20), [&](Ops& ops) { ops.norm(part, norm, want); });
  run_step(*cpu_, rows_step(20), [&](Ops& ops) {
    if (!ops.dry()) ops.norm(part, norm, part);
  });
  const HostTensor untouched = random_tensor({20, 300}, 1);
  for (int64_t r = 0; r < 20; ++r) {
    for (int64_t c = 0; c < 300; ++c) {
      const float got = x.f32()[r * 300 + c];
      if (c < 150 || c >= 250) {
        ASSERT_EQ(got, untouched.f32()[r * 300 + c]) << "outside the view";
      } else {
        ASSERT_NEAR(got, want.f32()[r * 100 + c - 150], 1e-5);
      }
    }
  }
}

TEST_P(CpuOps, AddAndAddNormMatch) {
  for (const auto& [rows, width] : row_cases()) {
    const HostTensor x = random_tensor({rows, width}, 1), weight = random_tensor({width}, 2);
    const HostTensor sum_got = random_tensor({rows, width}, 3), sum_want = random_tensor({rows, width}, 3);
    const HostTensor got(DType::kF32, {rows, width}), want(DType::kF32, {rows, width});
    const Norm norm{weight, 1e-5f};
    const auto body = [&](const HostTensor& sum, const HostTensor& out) {
      return [&](Ops& ops) {
        if (ops.dry()) return;
        ops.add(sum, x);
        ops.add_norm(sum, x, norm, out);
      };
    };
    run_step(*cpu_, rows_step(rows), body(sum_got, got));
    run_step(*ref_, rows_step(rows), body(sum_want, want));
    EXPECT_EQ(nmse(sum_got.values(), sum_want.values()), 0) << rows << " x " << width;
    EXPECT_LT(nmse(got.values(), want.values()), 1e-13) << rows << " x " << width;
  }
}

TEST_P(CpuOps, GatedActivationMatches) {
  for (const Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    for (const auto& [rows, width] : row_cases()) {
      const HostTensor x = random_tensor({rows, 2 * width}, 1, 4);
      const HostTensor got(DType::kF32, {rows, width}), want(DType::kF32, {rows, width});
      run_step(*cpu_, rows_step(rows), [&](Ops& ops) { ops.gated_activation(x, activation, got); });
      run_step(*ref_, rows_step(rows), [&](Ops& ops) { ops.gated_activation(x, activation, want); });
      EXPECT_LT(nmse(got.values(), want.values()), 1e-12)
          << static_cast<int>(activation) << " " << rows << " x " << width;
    }
  }
}

TEST_P(CpuOps, ActivationsOfExtremeInputsStayFinite) {
  const std::vector<float> inputs = {-1e30f, -200, -89, -88, -20, -1e-30f, 0, 1e-30f, 20, 88, 89, 200, 1e30f};
  const auto n = static_cast<int64_t>(inputs.size());
  for (const Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    const HostTensor x(DType::kF32, {1, 2 * n}), got(DType::kF32, {1, n}), want(DType::kF32, {1, n});
    for (int64_t i = 0; i < n; ++i) {
      x.f32()[i] = inputs[static_cast<size_t>(i)];
      x.f32()[n + i] = 1;
    }
    run_step(*cpu_, rows_step(1), [&](Ops& ops) { ops.gated_activation(x, activation, got); });
    run_step(*ref_, rows_step(1), [&](Ops& ops) { ops.gated_activation(x, activation, want); });
    for (int64_t i = 0; i < n; ++i) {
      const float bound = 1e-6f * std::abs(want.f32()[i]) + 1e-6f;
      EXPECT_NEAR(got.f32()[i], want.f32()[i], bound) << static_cast<int>(activation) << " of " << x.f32()[i];
    }
  }
}

TEST_P(CpuOps, EmbedAndGatherMatch) {
  constexpr int64_t kVocab = 50, kWidth = 640;
  const HostTensor table = random_tensor({kVocab, kWidth}, 4);
  HostTensor half(DType::kF16, {kVocab, kWidth});
  for (int64_t i = 0; i < half.size(); ++i) half.view().as<uint16_t>()[i] = f32_to_f16(table.f32()[i]);
  for (const int64_t rows : {1, 3, 130}) {
    std::vector<int32_t> ids;
    std::vector<int32_t> out_rows;
    for (int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<int32_t>((r * 37 + 49) % kVocab));
    for (int64_t r = rows - 1; r >= 0; r -= 2) out_rows.push_back(static_cast<int32_t>(r));
    const HostTensor id_tensor = int_tensor(ids), row_tensor = int_tensor(out_rows);
    StepInput input = rows_step(rows);
    input.ids = id_tensor;
    input.out_rows = row_tensor;
    input.out_count = static_cast<int64_t>(out_rows.size());
    for (const HostTensor* source : {&table, static_cast<const HostTensor*>(&half)}) {
      const Tensor bytes(source->view().data, DType::kU8, {source->view().bytes()});
      const Embed embed{{QuantFormat::plain(source->view().dtype), kVocab, kWidth}, 1.5f, bytes};
      const HostTensor got(DType::kF32, {input.out_count, kWidth}), want(DType::kF32, {input.out_count, kWidth});
      const auto body = [&](const HostTensor& out) {
        return [&](Ops& ops) {
          const Tensor all = ops.temp(DType::kF32, {rows, kWidth});
          ops.embed(embed, all);
          ops.gather_out_rows(all, out);
        };
      };
      run_step(*cpu_, input, body(got));
      run_step(*ref_, input, body(want));
      EXPECT_EQ(nmse(got.values(), want.values()), 0);
      EXPECT_EQ(want.f32()[0], 1.5f * PagedStep::get(source->view(), ids[static_cast<size_t>(out_rows[0])] * kWidth));
    }
  }
}

TEST_P(CpuOps, QkNormRopeStoreMatches) {
  for (const RopeCase& c : rope_cases()) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      const auto& [heads, kv_heads, head_dim] = c.shape;
      PagedStep got(c.seqs, c.shape, c.block, 0, dtype), want(c.seqs, c.shape, c.block, 0, dtype);
      const int64_t rows = got.input.rows;
      const HostTensor qkv = random_tensor({rows, (heads + 2 * kv_heads) * head_dim}, 5);
      const HostTensor q_weight = random_tensor({head_dim}, 6), k_weight = random_tensor({head_dim}, 7);
      HostTensor inv_freq(DType::kF32, {c.rot_dim / 2});
      for (int64_t i = 0; i < inv_freq.size(); ++i) {
        inv_freq.f32()[i] = std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(c.rot_dim));
      }
      QkvArgs args{.shape = c.shape, .q_norm = {}, .k_norm = {}, .rope = {}};
      if (c.norms) {
        args.q_norm = {q_weight, 1e-6f};
        args.k_norm = {k_weight, 1e-6f};
      }
      if (c.rot_dim > 0) {
        args.rope = {inv_freq, c.scale, c.interleaved, 0, c.dynamic_factor, 10000.0f, c.dynamic_length};
      }
      const HostTensor q_got(DType::kF32, {rows, heads, head_dim}), q_want(DType::kF32, {rows, heads, head_dim});
      run_step(*cpu_, got.input, [&](Ops& ops) { ops.qk_norm_rope_store(args, qkv, got.kv, q_got); });
      run_step(*ref_, want.input, [&](Ops& ops) { ops.qk_norm_rope_store(args, qkv, want.kv, q_want); });
      EXPECT_LT(nmse(q_got.values(), q_want.values()), 1e-13) << c.name;
      const double bound = dtype == DType::kF32 ? 1e-13 : 1e-9;  // a half may round the other way
      double error = 0, power = 0;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t seq = got.input.row_seq.as<int32_t>()[r];
        for (int64_t h = 0; h < kv_heads; ++h) {
          const int64_t at = got.offset(seq, got.input.positions.as<int32_t>()[r], h);
          for (int64_t i = 0; i < head_dim; ++i) {
            const double k = PagedStep::get(want.kv.k, at + i);
            error += std::pow(PagedStep::get(got.kv.k, at + i) - k, 2);
            power += k * k;
            ASSERT_EQ(PagedStep::get(got.kv.v, at + i), PagedStep::get(want.kv.v, at + i)) << c.name;
          }
        }
      }
      EXPECT_LT(error / power, bound) << c.name;
    }
  }
}

TEST_P(CpuOps, AttentionMatches) {
  for (const AttnCase& c : attention_cases()) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      PagedStep step(c.seqs, c.shape, c.block, c.window, dtype);
      step.fill_cache(8);
      const Shape shape = {step.input.rows, c.shape.heads, c.shape.head_dim};
      const HostTensor q = random_tensor(shape, 9, 2), got(DType::kF32, shape), want(DType::kF32, shape);
      const AttnArgs args{c.shape, 1 / std::sqrt(static_cast<float>(c.shape.head_dim)), c.softcap, c.window};
      run_step(*cpu_, step.input, [&](Ops& ops) { ops.attention(args, q, step.kv, got); });
      run_step(*ref_, step.input, [&](Ops& ops) { ops.attention(args, q, step.kv, want); });
      EXPECT_LT(nmse(got.values(), want.values()), 1e-11) << c.name << " " << to_string(dtype);
    }
  }
}

// A prompt in pieces, through the cache, gives the rows of the whole. Pieces of many rows give the same bits: a row's
// result does not depend on the rows around it.
TEST_P(CpuOps, AttentionInChunksEqualsOnePass) {
  constexpr int64_t kRows = 200;
  const AttnShape shape{6, 2, 64};
  for (const int64_t window : {0, 70}) {
    const HostTensor q = random_tensor({kRows, shape.heads, shape.head_dim}, 9, 2);
    const auto run = [&](int64_t begin, int64_t rows) {
      PagedStep step({{begin, rows}}, shape, 16, 0, DType::kF16);
      step.fill_cache(8);  // the same keys and values for the same token
      HostTensor out(DType::kF32, {rows, shape.heads, shape.head_dim});
      const AttnArgs args{shape, 0.125f, 0, window};
      run_step(*cpu_, step.input, [&](Ops& ops) { ops.attention(args, q.view().rows(begin, rows), step.kv, out); });
      return std::vector<float>(out.values().begin(), out.values().end());
    };
    const std::vector<float> whole = run(0, kRows);
    const auto same_rows = [&](int64_t begin, int64_t rows) {
      const int64_t width = shape.heads * shape.head_dim;
      return std::span(whole).subspan(static_cast<size_t>(begin * width), static_cast<size_t>(rows * width));
    };
    int64_t begin = 0;
    for (const int64_t rows : {70, 1, 30, 2, 50, 6, 41}) {
      const std::vector<float> piece = run(begin, rows);
      EXPECT_LT(nmse(piece, same_rows(begin, rows)), 1e-12) << rows << " rows at " << begin;
      if (rows >= 30) {
        EXPECT_EQ(std::memcmp(piece.data(), same_rows(begin, rows).data(), piece.size() * sizeof(float)), 0);
      }
      begin += rows;
    }
    ASSERT_EQ(begin, kRows);
  }
}

// Bitwise: the cut of the work may depend on the threads, the arithmetic may not.
TEST(CpuThreads, AttentionDoesNotDependOnTheirNumber) {
  for (const cpu::Isa isa : cpu::usable_isas()) {
    for (const AttnCase& c : attention_cases()) {
      PagedStep step(c.seqs, c.shape, c.block, c.window, DType::kF16);
      step.fill_cache(8);
      const Shape shape = {step.input.rows, c.shape.heads, c.shape.head_dim};
      const HostTensor q = random_tensor(shape, 9, 2), one(DType::kF32, shape), many(DType::kF32, shape);
      const AttnArgs args{c.shape, 0.125f, c.softcap, c.window};
      run_step(*make_cpu_backend(1, isa), step.input, [&](Ops& ops) { ops.attention(args, q, step.kv, one); });
      for (const int threads : {2, 5, 16}) {
        run_step(*make_cpu_backend(threads, isa), step.input, [&](Ops& ops) { ops.attention(args, q, step.kv, many); });
        EXPECT_EQ(std::memcmp(one.f32(), many.f32(), one.values().size_bytes()), 0) << c.name << ", " << threads;
      }
    }
  }
}

}  // namespace
}  // namespace baize
