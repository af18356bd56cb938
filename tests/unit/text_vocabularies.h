// Tiny GGUF vocabularies for the tests of the text layer, owning their strings.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "text/gguf_vocab.h"

namespace baize::test {

/// A vocabulary that can be added to; `vocab()` borrows from it.
class TinyVocab {
 public:
  TinyVocab(std::string model, std::string pre) {
    vocab_.model = std::move(model);
    vocab_.pre = std::move(pre);
  }

  Token add(std::string text, GgufTokenType type = GgufTokenType::kNormal, float score = 0) {
    vocab_.tokens.push_back(texts_.emplace_back(std::move(text)));
    vocab_.types.push_back(static_cast<int64_t>(type));
    vocab_.scores.push_back(score);
    return static_cast<Token>(vocab_.tokens.size()) - 1;
  }
  void merge(std::string pair) { vocab_.merges.push_back(texts_.emplace_back(std::move(pair))); }

  GgufVocab& vocab() { return vocab_; }

 private:
  std::deque<std::string> texts_;
  GgufVocab vocab_;
};

/// SentencePiece with bytes: <unk> <s> </s>, the bytes from id 3, then pieces; user text from id 259.
inline TinyVocab scored_vocab() {
  TinyVocab tiny("llama", "");
  tiny.add("<unk>", GgufTokenType::kUnknown);
  tiny.add("<s>", GgufTokenType::kControl);
  tiny.add("</s>", GgufTokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    constexpr const char* kHex = "0123456789ABCDEF";
    tiny.add(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">", GgufTokenType::kByte);
  }
  float score = -1;
  for (const char* text : {"▁h", "el", "lo", "▁hello", "▁hel", "▁", "h", "e", "l", "o", "w", "é"}) {
    tiny.add(text, GgufTokenType::kNormal, score--);
  }
  return tiny;
}

/// GPT-2 style, the letters of the bytes first (byte b has the id b), then "Ġh", "el", "lo", "ell", "Ġhello".
inline TinyVocab byte_vocab(const std::string& pre = "gpt-2") {
  TinyVocab tiny("gpt2", pre);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    const int code = printable ? byte : next++;
    std::string text;
    if (code >= 0x80) text.push_back(static_cast<char>(0xC0 | code >> 6));
    text.push_back(static_cast<char>(code >= 0x80 ? 0x80 | (code & 0x3F) : code));
    tiny.add(text);
  }
  for (const char* text : {"Ġh", "el", "lo", "ell", "Ġhello", "Ġhell"}) tiny.add(text);
  for (const char* pair : {"Ġ h", "e l", "el l", "Ġh ell", "Ġhell o", "l o"}) tiny.merge(pair);
  return tiny;
}

}  // namespace baize::test
