#include "text/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/bridge.h"
#include "text/detokenizer.h"
#include "text/utf8.h"

namespace baize {
namespace {

using bridge::Buffer;
using bridge::Ids;
using bridge::view;

/// For calls that only a bug can make fail.
void expect_ok(baize_text_status status, const Buffer& error) {
  if (status != BAIZE_TEXT_OK) fail(ErrorKind::kInvalidArgument, "the tokenizer failed: {}", error.text());
}

}  // namespace

void Tokenizer::Free::operator()(baize_tokenizer* tokenizer) const { baize_tokenizer_free(tokenizer); }

Tokenizer::Tokenizer(baize_tokenizer* handle) : handle_(handle) {
  baize_tokenizer_info info{};
  Buffer error;
  expect_ok(baize_tokenizer_describe(handle, &info, error.out()), error);
  const Ids special(info.special), prefix(info.prefix), suffix(info.suffix);
  vocab_size_ = info.id_limit;
  special_.resize(static_cast<size_t>(vocab_size_));
  for (Token id : special.copy()) special_[static_cast<size_t>(id)] = true;
  prefix_ = prefix.copy();
}

std::vector<Token> Tokenizer::encode(std::string_view text, bool add_special, SpecialText special) const {
  if (const auto at = find_invalid_utf8(text)) {
    fail(ErrorKind::kInvalidArgument, "the text is not valid UTF-8 at byte {}; convert it to UTF-8 first", *at);
  }
  Ids ids;
  Buffer error;
  const auto status = baize_tokenizer_encode(handle_.get(), view(text), add_special, special == SpecialText::kParse,
                                             ids.out(), error.out());
  if (status != BAIZE_TEXT_OK) fail(ErrorKind::kInvalidArgument, "the text cannot be tokenized: {}", error.text());
  return ids.copy();
}

std::string Tokenizer::decode(std::span<const Token> ids, bool show_special) const {
  Detokenizer detokenizer(*this, {.show_special = show_special});
  std::string text;
  for (Token id : ids) text += detokenizer.push(id);
  return text + detokenizer.flush();
}

std::string Tokenizer::piece(Token id, bool first) const {
  Buffer bytes, error;
  expect_ok(baize_tokenizer_piece(handle_.get(), id, first, bytes.out(), error.out()), error);
  return std::string(bytes.text());
}

std::string Tokenizer::token_text(Token id) const {
  Buffer text, error;
  expect_ok(baize_tokenizer_token(handle_.get(), id, text.out(), error.out()), error);
  return std::string(text.text());
}

std::optional<Token> Tokenizer::id_of(std::string_view token) const {
  Token id = -1;
  Buffer error;
  expect_ok(baize_tokenizer_id(handle_.get(), view(token), &id, error.out()), error);
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Tokenizer::is_special(Token id) const { return id >= 0 && id < vocab_size_ && special_[static_cast<size_t>(id)]; }

void Tokenizer::set_begin_and_end(std::optional<Token> bos, std::optional<Token> eos, std::vector<Token> ends) {
  bos_ = bos;
  eos_ = eos;
  adds_bos_ = bos && std::find(prefix_.begin(), prefix_.end(), *bos) != prefix_.end();
  end_tokens_ = std::move(ends);
  if (eos) end_tokens_.push_back(*eos);
  std::sort(end_tokens_.begin(), end_tokens_.end());
  end_tokens_.erase(std::unique(end_tokens_.begin(), end_tokens_.end()), end_tokens_.end());
}

}  // namespace baize
