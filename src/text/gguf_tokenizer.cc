// Tokenizer::from_gguf: the vocabulary of a GGUF file, put together from the file's arrays and what its names imply.

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "text/bridge.h"
#include "text/pretokenizer_table.h"
#include "text/tokenizer.h"

namespace baize {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, which stands for a space in tokens

/// Tokens that end a turn or a text. Files often give only one id, or call them normal tokens.
constexpr std::array<std::string_view, 16> kEndTokens = {
    "<|eot_id|>", "<|im_end|>",    "<|end|>",         "<|return|>",
    "<|call|>",   "<end_of_turn>", "<|endoftext|>",   "<|eom_id|>",
    "<EOT>",      "[EOT]",         "<|end_of_text|>", "<end_of_utterance>",
    "<turn|>",    "<|calls|>",     "<|flush|>",       "<｜end▁of▁sentence｜>"};

/// Builds the crate's options from a vocabulary.
class Builder {
 public:
  explicit Builder(const GgufVocab& vocab) : vocab_(vocab), tokens_(vocab.tokens) {}

  Json build();
  const std::vector<std::string_view>& tokens() const { return tokens_; }
  std::vector<uint8_t> mergeable() const;
  std::vector<Token> end_tokens() const;
  std::optional<Token> bos, eos;

 private:
  void check_arrays() const;
  std::optional<Token> checked(const char* name, std::optional<Token> id) const;
  std::optional<Token> find(std::string_view text) const;
  GgufTokenType type(size_t id) const;
  void merge_by_ranks(const PreTokenizer& pre);
  void merge_by_scores();
  void wordpiece();
  void unigram();
  void surround(bool add_bos, bool add_eos);
  void add_tokens(bool strip_right);

  const GgufVocab& vocab_;
  std::vector<std::string_view> tokens_;
  std::vector<std::string> respelt_;  // owns what tokens_ shows of respelt tokens
  std::optional<Token> unk_, sep_;
  Json options_;
};

Json replace(std::string_view from, std::string_view to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

void Builder::check_arrays() const {
  const size_t count = tokens_.size();
  if (count == 0) fail(ErrorKind::kCorrupt, "the tokenizer has no tokens (tokenizer.ggml.tokens)");
  const auto check = [&](const char* name, size_t size) {
    if (size != 0 && size != count) {
      fail(ErrorKind::kCorrupt, "the tokenizer has {} tokens but {} entries in tokenizer.ggml.{}", count, size, name);
    }
  };
  check("scores", vocab_.scores.size());
  check("token_type", vocab_.types.size());
}

/// The id, unless it lies outside the vocabulary: such ids occur in files that are otherwise fine.
std::optional<Token> Builder::checked(const char* name, std::optional<Token> id) const {
  if (!id || (*id >= 0 && static_cast<size_t>(*id) < tokens_.size())) return id;
  log::warn("the {} token {} lies outside the vocabulary of {}; ignored", name, *id, tokens_.size());
  return std::nullopt;
}

std::optional<Token> Builder::find(std::string_view text) const {
  const auto at = std::find(tokens_.begin(), tokens_.end(), text);
  return at == tokens_.end() ? std::nullopt : std::optional(static_cast<Token>(at - tokens_.begin()));
}

GgufTokenType Builder::type(size_t id) const {
  if (!vocab_.types.empty()) return static_cast<GgufTokenType>(vocab_.types[id]);
  const auto token = static_cast<Token>(id);
  if (token == unk_) return GgufTokenType::kUnknown;
  return token == bos || token == eos ? GgufTokenType::kControl : GgufTokenType::kNormal;
}

Json Builder::build() {
  check_arrays();
  bos = checked("bos", vocab_.bos);
  eos = checked("eos", vocab_.eos);
  unk_ = checked("unk", vocab_.unk);
  sep_ = checked("sep", vocab_.sep);
  switch (find_vocab_model(vocab_.model)) {
    case VocabModel::kRanks:
      merge_by_ranks(find_pre_tokenizer(vocab_.pre));
      break;
    case VocabModel::kRawRanks:
      merge_by_ranks(find_pre_tokenizer(vocab_.model));
      break;
    case VocabModel::kScores:
      merge_by_scores();
      break;
    case VocabModel::kWordPiece:
      wordpiece();
      break;
    case VocabModel::kUnigram:
      unigram();
      break;
  }
  if (unk_) options_["unk"] = *unk_;
  return options_;
}

void Builder::merge_by_ranks(const PreTokenizer& pre) {
  if (vocab_.merges.empty()) fail(ErrorKind::kCorrupt, "the tokenizer has no merges (tokenizer.ggml.merges)");
  options_["model"] = "ranks";
  options_["ignore_merges"] = pre.ignore_merges;
  options_["pre_tokenizer"] = Json::parse(pre_tokenizer_json(pre));
  if (pre.byte_level) {
    if (pre.nfc) options_["normalizer"] = {{"type", "NFC"}};
    options_["decoder"] = {
        {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  } else {
    options_["normalizer"] = replace(" ", kSpace);
    options_["decoder"] = {{"type", "Sequence"},
                           {"decoders", {replace(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}};
    options_["byte_fallback"] = true;
    options_["fuse_unk"] = true;
  }
  const bool add_sep = vocab_.add_sep.value_or(pre.add_sep);
  if (!sep_ && add_sep) sep_ = eos;
  surround(vocab_.add_bos.value_or(pre.add_bos) || !pre.byte_level, vocab_.add_eos.value_or(false));
  if (add_sep && sep_ && options_["suffix"].empty()) options_["suffix"] = {*sep_};
  add_tokens(false);
}

void Builder::merge_by_scores() {
  if (vocab_.scores.empty()) fail(ErrorKind::kCorrupt, "the tokenizer has no scores (tokenizer.ggml.scores)");
  // The ids that SentencePiece gives these tokens unless told otherwise.
  if (!vocab_.bos) bos = checked("bos", 1);
  if (!vocab_.eos) eos = checked("eos", 2);
  if (!vocab_.unk) unk_ = 0;
  const bool prefix_space = vocab_.add_space_prefix.value_or(true);
  Json normalizers = Json::array();
  Json decoders = {replace(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (prefix_space) {
    normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  normalizers.push_back(replace(" ", kSpace));
  options_["model"] = "scores";
  options_["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
  options_["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  options_["byte_fallback"] = true;
  options_["fuse_unk"] = true;
  surround(vocab_.add_bos.value_or(true), vocab_.add_eos.value_or(false));
  // The vocabulary with these placeholders was trained with special tokens that swallow the whitespace behind them,
  // which GGUF cannot say.
  add_tokens(find("<|placeholder1|>").has_value());
}

void Builder::wordpiece() {
  // GGUF spells a word's beginning "▁a" and its continuation "a"; WordPiece spells them "a" and "##a".
  respelt_.reserve(tokens_.size());
  for (size_t id = 0; id < tokens_.size(); ++id) {
    std::string_view text = tokens_[id];
    const bool whole = type(id) != GgufTokenType::kNormal || (text.starts_with('[') && text.ends_with(']'));
    if (whole) continue;
    if (text.starts_with(kSpace)) {
      tokens_[id] = text.substr(kSpace.size());
    } else {
      tokens_[id] = respelt_.emplace_back("##" + std::string(text));
    }
  }
  if (!bos) bos = checked("cls", vocab_.cls);
  if (!bos) bos = find("[CLS]");
  if (!sep_) sep_ = find("[SEP]");
  if (!unk_) unk_ = find("[UNK]");
  const bool lowercase = vocab_.normalizer_lowercase.value_or(true);
  options_["model"] = "wordpiece";
  options_["normalizer"] = {{"type", "BertNormalizer"},
                            {"clean_text", true},
                            {"handle_chinese_chars", true},
                            {"strip_accents", vocab_.normalizer_strip_accents.value_or(lowercase)},
                            {"lowercase", lowercase}};
  options_["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  options_["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  surround(vocab_.add_bos.value_or(true), false);
  if (vocab_.add_sep.value_or(true) && sep_) options_["suffix"] = {*sep_};
  add_tokens(false);
}

void Builder::unigram() {
  if (vocab_.scores.empty()) fail(ErrorKind::kCorrupt, "the tokenizer has no scores (tokenizer.ggml.scores)");
  if (!vocab_.eos) eos = checked("eos", 1);
  if (!vocab_.unk) unk_ = checked("unk", 2);
  const bool prefix_space = vocab_.add_space_prefix.value_or(true);
  const Json metaspace = {{"type", "Metaspace"},
                          {"replacement", kSpace},
                          {"prepend_scheme", prefix_space ? "always" : "never"},
                          {"split", true}};
  Json steps = Json::array();
  if (vocab_.remove_extra_whitespaces.value_or(true)) steps.push_back({{"type", "WhitespaceSplit"}});
  steps.push_back(metaspace);
  options_["model"] = "unigram";
  options_["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  options_["decoder"] = metaspace;
  options_["byte_fallback"] = find("<0x00>").has_value();
  surround(vocab_.add_bos.value_or(false), vocab_.add_eos.value_or(true));
  add_tokens(false);
}

void Builder::surround(bool add_bos, bool add_eos) {
  options_["prefix"] = add_bos && bos ? Json{*bos} : Json::array();
  options_["suffix"] = add_eos && eos ? Json{*eos} : Json::array();
}

/// Tokens that are found in the text as they are. `strip_right`: control tokens swallow the whitespace behind them.
void Builder::add_tokens(bool strip_right) {
  Json added = Json::array();
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const GgufTokenType kind = type(id);
    const bool ends = std::find(kEndTokens.begin(), kEndTokens.end(), tokens_[id]) != kEndTokens.end();
    const bool control = kind == GgufTokenType::kControl || kind == GgufTokenType::kUnknown || ends;
    if (!control && kind != GgufTokenType::kUserDefined) continue;
    Json entry{{"id", id}, {"special", control}};
    const bool plain =
        kind == GgufTokenType::kUnknown || static_cast<Token>(id) == bos || tokens_[id] == "<|endoftext|>";
    if (strip_right && control && !plain) entry["rstrip"] = true;
    added.push_back(std::move(entry));
  }
  options_["added"] = std::move(added);
}

std::vector<uint8_t> Builder::mergeable() const {
  std::vector<uint8_t> flags(tokens_.size());
  for (size_t id = 0; id < flags.size(); ++id) {
    const GgufTokenType kind = type(id);
    flags[id] = kind != GgufTokenType::kControl && kind != GgufTokenType::kUnknown && kind != GgufTokenType::kByte;
  }
  return flags;
}

std::vector<Token> Builder::end_tokens() const {
  std::vector<Token> ends;
  for (const auto id : {checked("eot", vocab_.eot), checked("eom", vocab_.eom)}) {
    if (id) ends.push_back(*id);
  }
  std::unordered_map<std::string_view, Token> found;
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (std::find(kEndTokens.begin(), kEndTokens.end(), tokens_[id]) == kEndTokens.end()) continue;
    found[tokens_[id]] = static_cast<Token>(id);
  }
  // Where calls have an end of their own, <|end|> only parts the messages of one answer.
  if (found.contains("<|return|>") || found.contains("<|flush|>")) found.erase("<|end|>");
  for (const auto& [text, id] : found) ends.push_back(id);
  return ends;
}

std::map<std::string, std::string> named_tokens(const GgufVocab& vocab, const Builder& builder) {
  std::map<std::string, std::string> named;
  const auto add = [&](const char* name, std::optional<Token> id) {
    if (!id || *id < 0 || static_cast<size_t>(*id) >= vocab.tokens.size()) return;
    named.emplace(name, vocab.tokens[static_cast<size_t>(*id)]);
  };
  add("bos_token", builder.bos);
  add("eos_token", builder.eos);
  add("unk_token", vocab.unk);
  add("sep_token", vocab.sep);
  add("pad_token", vocab.pad);
  add("cls_token", vocab.cls);
  add("mask_token", vocab.mask);
  return named;
}

std::vector<baize_text_view> views(const std::vector<std::string_view>& texts) {
  std::vector<baize_text_view> result(texts.size());
  std::transform(texts.begin(), texts.end(), result.begin(), bridge::view);
  return result;
}

}  // namespace

Tokenizer Tokenizer::from_gguf(const GgufVocab& vocab) {
  Builder builder(vocab);
  const std::string options = builder.build().dump();
  const auto tokens = views(builder.tokens());
  const auto merges = views(vocab.merges);
  const auto mergeable = builder.mergeable();
  const baize_text_vocab arrays = {.tokens = tokens.data(),
                                   .n_tokens = tokens.size(),
                                   .scores = vocab.scores.data(),
                                   .n_scores = vocab.scores.size(),
                                   .mergeable = mergeable.data(),
                                   .n_mergeable = mergeable.size(),
                                   .merges = merges.data(),
                                   .n_merges = merges.size(),
                                   .charsmap = bridge::view(vocab.precompiled_charsmap)};
  baize_tokenizer* handle = nullptr;
  bridge::Buffer error;
  const auto status = baize_tokenizer_from_vocab(&arrays, bridge::view(options), &handle, error.out());
  if (status != BAIZE_TEXT_OK) fail(ErrorKind::kCorrupt, "the tokenizer of the GGUF file is broken: {}", error.text());

  Tokenizer tokenizer(handle);
  tokenizer.special_tokens_ = named_tokens(vocab, builder);
  tokenizer.chat_templates_ = vocab.chat_templates;
  tokenizer.set_begin_and_end(builder.bos, builder.eos, builder.end_tokens());
  return tokenizer;
}

}  // namespace baize
