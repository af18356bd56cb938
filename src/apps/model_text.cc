#include "apps/model_text.h"

#include <algorithm>

#include "apps/checkpoint_defaults.h"
#include "base/error.h"
#include "base/json.h"
#include "formats/gguf.h"

namespace baize::apps {

namespace {

// Scalar key-values of a GGUF file by their kind; absent ones are nullopt.
class GgufKeys {
 public:
  explicit GgufKeys(const Checkpoint& checkpoint) : values_(checkpoint.metadata()), path_(checkpoint.path()) {}

  std::string text(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_string()) wrong(key, "a text");
    return value->get<std::string>();
  }
  std::optional<bool> flag(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) wrong(key, "true or false");
    return value->get<bool>();
  }
  std::optional<Token> token(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number_integer()) wrong(key, "a token id");
    const auto id = value->get<int64_t>();
    // Some files spell "none" as 2^32 - 1.
    if (id < 0 || id > std::numeric_limits<Token>::max()) return std::nullopt;
    return static_cast<Token>(id);
  }
  /// Texts under `stem` itself, as "default", and under stem.NAME.
  std::map<std::string, std::string> texts(const std::string& stem) const {
    std::map<std::string, std::string> found;
    for (const auto& [key, value] : values_.items()) {
      if (!key.starts_with(stem) || !value.is_string()) continue;
      if (key.size() == stem.size()) found["default"] = value.get<std::string>();
      if (key.size() > stem.size() + 1 && key[stem.size()] == '.') {
        found[key.substr(stem.size() + 1)] = value.get<std::string>();
      }
    }
    return found;
  }

 private:
  const Json* find(const std::string& key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? nullptr : &*it;
  }
  [[noreturn]] void wrong(const std::string& key, const char* expected) const {
    fail(ErrorKind::kCorrupt, "{}: {} must be {}", path_, key, expected);
  }

  const Json& values_;
  std::string path_;
};

// `charsmap` holds the bytes that the vocabulary views.
GgufVocab gguf_vocab(const Checkpoint& checkpoint, std::string& charsmap) {
  const GgufKeys keys(checkpoint);
  const GgufFile& file = *checkpoint.gguf();
  const std::string stem = "tokenizer.ggml.";
  if (!file.has(stem + "tokens")) {
    fail(ErrorKind::kNotFound, "{} holds no tokenizer: use `baize generate` with token ids, or another file",
         checkpoint.path());
  }
  GgufVocab vocab;
  vocab.model = keys.text(stem + "model");
  vocab.pre = keys.text(stem + "pre");
  vocab.tokens = file.strings(stem + "tokens");
  vocab.scores = file.floats(stem + "scores");
  for (const int64_t type : file.ints(stem + "token_type")) vocab.types.push_back(static_cast<int32_t>(type));
  vocab.merges = file.strings(stem + "merges");
  for (const int64_t byte : file.ints(stem + "precompiled_charsmap")) charsmap += static_cast<char>(byte);
  vocab.precompiled_charsmap = charsmap;
  vocab.bos = keys.token(stem + "bos_token_id");
  vocab.eos = keys.token(stem + "eos_token_id");
  vocab.eot = keys.token(stem + "eot_token_id");
  vocab.eom = keys.token(stem + "eom_token_id");
  vocab.unk = keys.token(stem + "unknown_token_id");
  vocab.sep = keys.token(stem + "seperator_token_id");
  vocab.pad = keys.token(stem + "padding_token_id");
  vocab.cls = keys.token(stem + "cls_token_id");
  vocab.mask = keys.token(stem + "mask_token_id");
  vocab.add_bos = keys.flag(stem + "add_bos_token");
  vocab.add_eos = keys.flag(stem + "add_eos_token");
  vocab.add_sep = keys.flag(stem + "add_sep_token");
  vocab.add_space_prefix = keys.flag(stem + "add_space_prefix");
  vocab.remove_extra_whitespaces = keys.flag(stem + "remove_extra_whitespaces");
  vocab.normalizer_lowercase = keys.flag(stem + "normalizer.lowercase");
  vocab.normalizer_strip_accents = keys.flag(stem + "normalizer.strip_accents");
  vocab.chat_templates = keys.texts("tokenizer.chat_template");
  return vocab;
}

}  // namespace

ModelText open_text(const Checkpoint& checkpoint) {
  std::string charsmap;
  Tokenizer tokenizer = checkpoint.kind() == Checkpoint::Kind::kGguf
                            ? Tokenizer::from_gguf(gguf_vocab(checkpoint, charsmap))
                            : Tokenizer::from_folder(checkpoint.tokenizer_folder());
  ChatTemplate chat(tokenizer);
  std::vector<Token> ends = checkpoint_defaults(checkpoint).stop_ids;
  ends.insert(ends.end(), tokenizer.end_tokens().begin(), tokenizer.end_tokens().end());
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return {std::move(tokenizer), std::move(chat), std::move(ends)};
}

}  // namespace baize::apps
