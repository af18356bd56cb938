// Harness: runs a bound model over one sequence, chunk by chunk, with a paged cache of its own: shuffled pages, and
// blocks that slid out of a window dropped from the table. What the engine does, in its smallest form. One thread.
#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "model/family.h"
#include "model/model.h"
#include "model/state.h"

namespace baize::test {

class Harness {
 public:
  static constexpr int64_t kBlock = 4;  // tokens a page: small, so that short prompts cross pages

  Harness(const std::string& path, Backend& backend, Compute compute, int64_t max_tokens)
      : backend_(backend), compute_(compute), checkpoint_(open_checkpoint(path)) {
    const ModelSpec spec = make_spec(*checkpoint_);
    model_ = bind(checkpoint_, spec, backend, {.compute = compute});
    make_cache(max_tokens);
  }

  const Model& model() const { return *model_; }

  /// Feeds `ids` after what was fed before; returns [ids, vocab] logits.
  std::vector<float> feed(std::span<const Token> ids) {
    const auto rows = static_cast<int64_t>(ids.size());
    std::vector<int32_t> positions, row_seq(ids.size(), 0), out_rows;
    for (int32_t i = 0; i < rows; ++i) {
      positions.push_back(static_cast<int32_t>(length_) + i);
      out_rows.push_back(i);
    }
    std::vector<int32_t> q_start = {0, static_cast<int32_t>(rows)};
    std::vector<int32_t> kv_len = {static_cast<int32_t>(length_ + rows)};
    std::vector<int32_t> tokens(ids.begin(), ids.end());
    std::vector<std::vector<int32_t>> tables;
    for (const StateNeed& group : groups_) tables.push_back(visible_table(group));

    StepInput input;
    input.rows = input.out_count = rows;
    input.seqs = 1;
    input.max_kv_len = length_ + rows;
    std::vector<Buffer> uploads;
    const auto i32 = [&](const std::vector<int32_t>& v) {
      const auto count = static_cast<int64_t>(v.size());
      uploads.push_back(backend_.allocate(count * 4));
      backend_.upload(uploads.back().data(), v.data(), count * 4);
      return Tensor(uploads.back().data(), DType::kI32, {count}, backend_.place());
    };
    input.ids = i32(tokens);
    input.positions = i32(positions);
    input.row_seq = i32(row_seq);
    input.q_start = i32(q_start);
    input.kv_len = i32(kv_len);
    input.out_rows = i32(out_rows);
    input.kv = views_;
    for (size_t g = 0; g < tables.size(); ++g) {
      input.block_tables[g] = i32(tables[g]).reshaped({1, static_cast<int64_t>(tables[g].size())});
    }

    const auto dry = backend_.make_ops(compute_, Arena());
    forward(*model_, input, *dry, {logits(rows, nullptr)});
    const auto ops = backend_.make_ops(compute_, Arena(backend_.allocate(dry->cost().arena_bytes)));
    std::vector<float> result(static_cast<size_t>(rows * model_->spec.dims.vocab), 1e30f);
    const auto bytes = static_cast<int64_t>(result.size() * sizeof(float));
    const Buffer memory = backend_.allocate(bytes);
    backend_.upload(memory.data(), result.data(), bytes);
    forward(*model_, input, *ops, {logits(rows, memory.data())});
    backend_.download(result.data(), memory.data(), bytes);
    length_ += rows;
    return result;
  }

  void reset() {
    length_ = 0;
    const std::vector<uint8_t> nan(static_cast<size_t>(pool_.bytes()), 0xff);  // what is not written must not be read
    backend_.upload(pool_.data(), nan.data(), pool_.bytes());
  }

 private:
  void make_cache(int64_t max_tokens) {
    const std::vector<StateNeed> needs = state_needs(model_->spec, model_->precision);
    blocks_ = std::max<int64_t>((max_tokens + kBlock - 1) / kBlock, static_cast<int64_t>(needs.size()));
    std::vector<StatePlace> places(needs.size());
    std::vector<int64_t> bytes;  // of a group's page so far
    for (size_t i = 0; i < needs.size(); ++i) {
      const auto at = std::find(groups_.begin(), groups_.end(), needs[i]);
      const auto group = static_cast<size_t>(at - groups_.begin());
      if (at == groups_.end()) {
        groups_.push_back(needs[i]);
        bytes.push_back(0);
      }
      places[i].group = static_cast<int>(group);
      const bool fixed = needs[i].kind == StateNeed::Kind::kFixed;
      places[i].page_stride = fixed ? 0 : bytes[group];  // for now: the state's offset in the page
      places[i].column = fixed ? columns_++ : 0;
      bytes[group] = fixed ? needs[i].bytes : bytes[group] + needs[i].bytes * kBlock;
    }
    const int64_t page = (*std::max_element(bytes.begin(), bytes.end()) + 63) / 64 * 64;
    const int64_t pages = blocks_ * static_cast<int64_t>(groups_.size());
    pool_ = backend_.allocate(page * pages);
    for (StatePlace& place : places) {
      place.base = static_cast<char*>(pool_.data()) + place.page_stride;
      place.place = backend_.place();
      place.page_stride = page;
      place.pages = pages;
      place.block = kBlock;
    }
    views_ = kv_views(model_->spec, model_->precision, places);
    order_.resize(static_cast<size_t>(pages));
    for (size_t i = 0; i < order_.size(); ++i) order_[i] = static_cast<int32_t>(i);
    std::shuffle(order_.begin(), order_.end(), std::mt19937(7));
    reset();
  }

  // The block table of a group for the next rows: blocks no row can see any more are -1.
  std::vector<int32_t> visible_table(const StateNeed& group) const {
    const auto index = static_cast<int64_t>(std::find(groups_.begin(), groups_.end(), group) - groups_.begin());
    std::vector<int32_t> table;
    for (int64_t b = 0; b < blocks_; ++b) {
      const bool slid_out = group.window > 0 && (b + 1) * kBlock <= length_ - group.window + 1;
      table.push_back(slid_out ? -1 : order_[static_cast<size_t>(index * blocks_ + b)]);
    }
    return table;
  }

  Tensor logits(int64_t rows, void* data) const {
    return Tensor(data, DType::kF32, {rows, model_->spec.dims.vocab}, backend_.place());
  }

  Backend& backend_;
  Compute compute_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::unique_ptr<const Model> model_;
  std::vector<StateNeed> groups_;
  Buffer pool_;
  std::vector<KvView> views_;
  std::vector<int32_t> order_;
  int64_t blocks_ = 0;
  int64_t columns_ = 0;  // states of fixed size
  int64_t length_ = 0;
};

}  // namespace baize::test
