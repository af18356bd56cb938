#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "text/pretokenizer_table.h"
#include "unit/expect_error.h"
#include "unit/temp_folder.h"
#include "unit/text_vocabularies.h"

namespace baize {
namespace {

using test::expect_error;
using test::TinyVocab;
using testing::ElementsAre;

constexpr Token kFirstPiece = 259;  // "▁h" in scored_vocab

TEST(Tokenizer, MergesByScores) {
  TinyVocab tiny = test::scored_vocab();
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  EXPECT_EQ(tokenizer.vocab_size(), 271);
  // "▁h", "el", "lo", "▁hel", "▁hello" come about in this order.
  EXPECT_THAT(tokenizer.encode("hello", false, SpecialText::kParse), ElementsAre(262));
  EXPECT_THAT(tokenizer.encode("hello", true, SpecialText::kParse), ElementsAre(1, 262));
  // "el" spoils "lo", and "▁helo" is no piece.
  EXPECT_THAT(tokenizer.encode("helo", false, SpecialText::kParse), ElementsAre(263, 268));
  // An unknown character becomes its bytes (ids 3 + byte).
  EXPECT_THAT(tokenizer.encode("né", false, SpecialText::kParse), ElementsAre(264, 3 + 'n', 270));
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_TRUE(tokenizer.adds_bos());
  EXPECT_THAT(tokenizer.end_tokens(), ElementsAre(2));
}

TEST(Tokenizer, MergesByRanks) {
  TinyVocab tiny = test::byte_vocab();
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  EXPECT_THAT(tokenizer.encode("hello hello", false, SpecialText::kParse), ElementsAre('h', 259, 'o', 260));
  EXPECT_EQ(tokenizer.decode(std::vector<Token>{260, 0xC3, 0xA9}), " helloé");
  EXPECT_EQ(tokenizer.token_text(260), "Ġhello");
  EXPECT_EQ(tokenizer.piece(260), " hello");
  EXPECT_EQ(tokenizer.piece(0xC3), "\xC3");
  EXPECT_EQ(tokenizer.piece(100000), "");
  EXPECT_EQ(tokenizer.id_of("Ġhello"), 260);
  EXPECT_EQ(tokenizer.id_of("nothing"), std::nullopt);
  EXPECT_FALSE(tokenizer.bos().has_value());
  EXPECT_FALSE(tokenizer.adds_bos());
}

TEST(Tokenizer, SpecialTokensInATextAreParsedOrNot) {
  TinyVocab tiny = test::byte_vocab();
  const Token end = tiny.add("<|im_end|>");  // known to end a turn, though it calls itself normal
  const Token image = tiny.add("<image>", GgufTokenType::kUserDefined);
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  EXPECT_THAT(tokenizer.encode("a<|im_end|><image>", false, SpecialText::kParse), ElementsAre('a', end, image));
  const auto plain = tokenizer.encode("a<|im_end|><image>", false, SpecialText::kPlain);
  EXPECT_EQ(plain.size(), 12);
  EXPECT_EQ(plain.back(), image);
  EXPECT_TRUE(tokenizer.is_special(end));
  EXPECT_FALSE(tokenizer.is_special(image));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(1 << 30));
  EXPECT_THAT(tokenizer.end_tokens(), ElementsAre(end));
  const std::vector<Token> ids = {'a', end, image};
  EXPECT_EQ(tokenizer.decode(ids), "a<image>");
  EXPECT_EQ(tokenizer.decode(ids, true), "a<|im_end|><image>");
}

TEST(Tokenizer, EndTokensOfAnAnswer) {
  TinyVocab tiny = test::byte_vocab();
  const Token part = tiny.add("<|end|>", GgufTokenType::kControl);
  const Token answer = tiny.add("<|return|>", GgufTokenType::kControl);
  const Token message = tiny.add("[stop]", GgufTokenType::kControl);
  tiny.vocab().eos = answer;
  tiny.vocab().eom = message;
  EXPECT_THAT(Tokenizer::from_gguf(tiny.vocab()).end_tokens(), ElementsAre(answer, message));
  tiny.vocab().tokens[static_cast<size_t>(answer)] = "other";
  EXPECT_THAT(Tokenizer::from_gguf(tiny.vocab()).end_tokens(), ElementsAre(part, answer, message));
}

TEST(Tokenizer, FlagsOfTheFileDecideAboutBeginAndEnd) {
  TinyVocab tiny = test::scored_vocab();
  const auto ids = [&] { return Tokenizer::from_gguf(tiny.vocab()).encode("h", true, SpecialText::kParse); };
  EXPECT_THAT(ids(), ElementsAre(1, kFirstPiece));
  tiny.vocab().add_eos = true;
  EXPECT_THAT(ids(), ElementsAre(1, kFirstPiece, 2));
  tiny.vocab().add_bos = false;
  EXPECT_THAT(ids(), ElementsAre(kFirstPiece, 2));
  tiny.vocab().add_space_prefix = false;
  EXPECT_THAT(ids(), ElementsAre(265, 2));
  tiny.vocab().bos = 5000;  // outside: ignored
  tiny.vocab().add_bos = true;
  EXPECT_THAT(ids(), ElementsAre(265, 2));
}

TEST(Tokenizer, WhitespaceBehindControlTokensOfOneVocabulary) {
  TinyVocab tiny = test::scored_vocab();
  const Token user = tiny.add("<|user|>", GgufTokenType::kControl);
  const auto ids = [&] {
    return Tokenizer::from_gguf(tiny.vocab()).encode("<|user|>\n <s> h", false, SpecialText::kParse);
  };
  EXPECT_THAT(ids(), ElementsAre(user, 264, 3 + '\n', 264, 1, 264, kFirstPiece));
  tiny.add("<|placeholder1|>", GgufTokenType::kControl);
  EXPECT_THAT(ids(), ElementsAre(user, 1, 264, kFirstPiece));
}

TEST(Tokenizer, BadTextNamesTheByte) {
  TinyVocab tiny = test::byte_vocab();
  const Tokenizer tokenizer = Tokenizer::from_gguf(tiny.vocab());
  expect_error(ErrorKind::kInvalidArgument, {"not valid UTF-8 at byte 2"},
               [&] { tokenizer.encode("ab\xFF", false, SpecialText::kParse); });
}

TEST(Tokenizer, BadVocabulariesSayWhatIsWrong) {
  const auto load = [](TinyVocab tiny) { return [tiny]() mutable { Tokenizer::from_gguf(tiny.vocab()); }; };
  expect_error(ErrorKind::kCorrupt, {"no tokens"}, load(TinyVocab("llama", "")));
  expect_error(ErrorKind::kUnsupported, {"'rwkv'", "gpt2"}, [] {
    TinyVocab tiny("rwkv", "");
    tiny.add("a");
    Tokenizer::from_gguf(tiny.vocab());
  });
  expect_error(ErrorKind::kUnsupported, {"'quen2'", "qwen2"}, [] {
    TinyVocab tiny = test::byte_vocab("quen2");
    Tokenizer::from_gguf(tiny.vocab());
  });
  expect_error(ErrorKind::kCorrupt, {"262 tokens but 1 entries in tokenizer.ggml.scores"}, [] {
    TinyVocab tiny = test::byte_vocab();
    tiny.vocab().scores.resize(1);
    Tokenizer::from_gguf(tiny.vocab());
  });
  expect_error(ErrorKind::kCorrupt, {"no merges"}, [] {
    TinyVocab tiny = test::byte_vocab();
    tiny.vocab().merges.clear();
    Tokenizer::from_gguf(tiny.vocab());
  });
  expect_error(ErrorKind::kCorrupt, {"no scores"}, [] {
    TinyVocab tiny = test::scored_vocab();
    tiny.vocab().scores.clear();
    Tokenizer::from_gguf(tiny.vocab());
  });
  expect_error(ErrorKind::kCorrupt, {"special token 262 is not valid UTF-8"}, [] {
    TinyVocab tiny = test::byte_vocab();
    tiny.add("\xFF\xFE", GgufTokenType::kControl);
    Tokenizer::from_gguf(tiny.vocab());
  });
  expect_error(ErrorKind::kCorrupt, {"character map"}, [] {
    TinyVocab tiny("t5", "");
    for (const char* text : {"<pad>", "</s>", "<unk>", "▁a"}) tiny.add(text);
    tiny.vocab().precompiled_charsmap = "broken";
    Tokenizer::from_gguf(tiny.vocab());
  });
}

TEST(Tokenizer, FolderWithoutATokenizer) {
  const test::TempFolder folder;
  expect_error(ErrorKind::kNotFound, {folder.path().string(), "no tokenizer.json"},
               [&] { Tokenizer::from_folder(folder.path().string()); });
}

TEST(Tokenizer, FolderWithTheLibrarysOwnModel) {
  const test::TempFolder folder;
  folder.write("tokenizer.json",
               R"({"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"},
    "pre_tokenizer": {"type": "WhitespaceSplit"}, "added_tokens": []})");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path().string());
  EXPECT_THAT(tokenizer.encode("b a c", true, SpecialText::kParse), ElementsAre(1, 0, 2));
  EXPECT_EQ(tokenizer.decode(std::vector<Token>{1, 0}), "b a");
}

TEST(PreTokenizers, NamesAreUnique) {
  std::set<std::string_view> names;
  for (const PreTokenizer& row : pre_tokenizers()) {
    std::string_view rest = row.names;
    while (!rest.empty()) {
      const size_t space = std::min(rest.find(' '), rest.size());
      EXPECT_TRUE(names.insert(rest.substr(0, space)).second) << rest;
      EXPECT_EQ(&find_pre_tokenizer(rest.substr(0, space)), &row);
      rest.remove_prefix(std::min(space + 1, rest.size()));
    }
  }
  EXPECT_EQ(&find_pre_tokenizer(""), &find_pre_tokenizer("default"));
}

}  // namespace
}  // namespace baize
