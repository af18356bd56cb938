#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "text/utf8.h"
#include "unit/text_vocabularies.h"

namespace baize {
namespace {

using test::TinyVocab;

constexpr Token kByte = 3;     // the byte 0x00 of scored_vocab
constexpr Token kHello = 262;  // "▁hello"

std::vector<std::string> pushes(Detokenizer detokenizer, const std::vector<Token>& ids) {
  std::vector<std::string> texts;
  for (Token id : ids) texts.push_back(detokenizer.push(id));
  texts.push_back(detokenizer.flush());
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Detokenizer, GivesWholeCharactersOfByteTokens) {
  TinyVocab tiny = test::scored_vocab();
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  const std::vector<Token> ids = {kHello, kByte + 0xF0, kByte + 0x9F, kByte + 0x98, kByte + 0x80, kHello};
  EXPECT_EQ(pushes(Detokenizer(tokenizer), ids), (Texts{"hello", "", "", "", "😀", " hello", ""}));
  EXPECT_EQ(pushes(Detokenizer(tokenizer), {kByte + 0xE4, kHello, kByte + 0xC3}),
            (Texts{"", "\uFFFD hello", "", "\uFFFD"}));
}

TEST(Detokenizer, GivesWholeCharactersOfByteLevelTokens) {
  TinyVocab tiny = test::byte_vocab();
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  EXPECT_EQ(pushes(Detokenizer(tokenizer), {260, 0xE4, 0xBD, 0xA0, 'a'}), (Texts{" hello", "", "", "你", "a", ""}));
}

TEST(Detokenizer, TheFirstSpaceBelongsToTheTextBeforeIt) {
  TinyVocab tiny = test::scored_vocab();
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  EXPECT_EQ(pushes(Detokenizer(tokenizer), {kHello, kHello}), (Texts{"hello", " hello", ""}));
  EXPECT_EQ(pushes(Detokenizer(tokenizer, {.continues_text = true}), {kHello}), (Texts{" hello", ""}));
  EXPECT_EQ(pushes(Detokenizer(tokenizer), {kByte + ' ', kHello}), (Texts{"", " hello", ""}));
  tiny.vocab().add_space_prefix = false;  // no space is added, so none is dropped
  const Tokenizer exact = Tokenizer::from_gguf(tiny.vocab());
  EXPECT_EQ(pushes(Detokenizer(exact), {kHello}), (Texts{" hello", ""}));
}

TEST(Detokenizer, SpecialTokensAreSkippedOrShown) {
  TinyVocab tiny = test::scored_vocab();
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  EXPECT_EQ(pushes(Detokenizer(tokenizer), {1, kHello, 2}), (Texts{"", "hello", "", ""}));
  EXPECT_EQ(pushes(Detokenizer(tokenizer, {.show_special = true}), {1, kHello, 2}),
            (Texts{"<s>", " hello", "</s>", ""}));
}

TEST(Detokenizer, BeginsAgainAfterFlush) {
  TinyVocab tiny = test::scored_vocab();
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push(kHello), "hello");
  EXPECT_EQ(detokenizer.flush(), "");
  EXPECT_EQ(detokenizer.push(kHello), "hello");
}

TEST(Detokenizer, JoinsToWhatDecodeGives) {
  std::mt19937 random(9);
  for (TinyVocab tiny : {test::scored_vocab(), test::byte_vocab()}) {
    const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
    for (int round = 0; round < 300; ++round) {
      std::vector<Token> ids(random() % 20);
      for (Token& id : ids) id = static_cast<Token>(random() % static_cast<unsigned>(tokenizer.vocab_size()));
      for (const bool show : {false, true}) {
        std::string joined;
        for (const std::string& text : pushes(Detokenizer(tokenizer, {.show_special = show}), ids)) {
          EXPECT_EQ(find_invalid_utf8(text), std::nullopt);
          joined += text;
        }
        EXPECT_EQ(joined, tokenizer.decode(ids, show));
      }
    }
  }
}

}  // namespace
}  // namespace baize
