#include "text/gguf_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "text/pretokenizer_table.h"
#include "text/tokenizer.h"

namespace baize {

namespace {

// Words, numbers, scripts, spaces and signs at which pre-tokenizers differ.
constexpr std::string_view kProbe =
    "Hello world! It's 3,141,592.65 or 1234567 o'clock, isn't it?  Two  spaces,   three\tand\ttabs.\n\n\nNew "
    "paragraph\r\n  indented line\n    if (x != y) { return foo_bar(&a[0], \"text\"); } // done...\n"
    "naïve café cafe\u0301 Straße ŒUVRE I\u0307stanbul ПРИВЕТ мир Ελληνικά עברית العربية ١٢٣ हिन्दी १२ ภาษาไทย "
    "한국어 텍스트 日本語のテキスト、カタカナ。 中文字符，标点！ 😀👍🏽 e=mc² ½ ⅷ №5 «quoted» — dash… $9.99 €5 100% "
    "#tag @name "
    "user@example.com https://example.com/a?b=c&d=e CamelCaseWord HTTPServer snake_case kebab-case I'LL WE'VE "
    "they're don't DON'T \u00a0nbsp\u2003em \u200bzero 0x1F 1e-5 a1b2 ''' \"\" ,,, ;;; ==> <= >= && || ++i -- ~~ "
    "```code``` "
    "<b>bold</b> \\n \\u1234 end   ";

[[noreturn]] void refuse(const std::string& folder, const std::string& why) {
  fail(ErrorKind::kUnsupported, "{}: the tokenizer cannot be written into a GGUF file: {}", folder, why);
}

Json read_tokenizer(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "tokenizer.json").string();
  try {
    return Json::parse(read_file(path));
  } catch (const Json::exception& e) {
    fail(ErrorKind::kCorrupt, "{}: not valid JSON: {}", path, e.what());
  }
}

Json member(const Json& object, const char* key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && it != object.end() ? *it : Json();
}

// A sequence's members in one list, without what makes no difference to the pieces.
Json flat(const Json& step, const char* list) {
  Json steps = Json::array();
  if (step.is_null()) return steps;
  if (member(step, "type") == "Sequence") {
    for (const Json& inner : member(step, list)) {
      for (const Json& each : flat(inner, list)) steps.push_back(each);
    }
    return steps;
  }
  Json plain = step;
  if (plain.is_object()) plain.erase("trim_offsets");
  steps.push_back(plain);
  return steps;
}

// Scores in the order of the merges: the one that is done first is the greatest.
std::vector<float> scores_of(const ExportedVocab& vocab) {
  std::unordered_map<std::string, float> ranks;
  for (const std::string& merge : vocab.merges) {
    const size_t space = merge.find(' ', 1);
    const auto rank = static_cast<float>(ranks.size());
    ranks.emplace(merge.substr(0, space) + merge.substr(space + 1), -rank);
  }
  const auto last = -static_cast<float>(ranks.size());
  std::vector<float> scores(vocab.tokens.size());
  for (size_t id = 0; id < scores.size(); ++id) {
    const auto found = ranks.find(vocab.tokens[id]);
    const bool normal = vocab.types[id] == static_cast<int64_t>(GgufTokenType::kNormal);
    scores[id] = !normal ? 0 : found == ranks.end() ? last - static_cast<float>(id) : found->second;
  }
  return scores;
}

class Exporter {
 public:
  Exporter(const std::string& folder, int64_t size)
      : folder_(folder), own_(Tokenizer::from_folder(folder)), json_(read_tokenizer(folder)), size_(size) {}

  ExportedVocab run() {
    const Json model = member(json_, "model");
    if (member(model, "type") != "BPE" && !member(model, "merges").is_array()) {
      refuse(folder_, fmt::format("its model is {}, and only BPE can be", member(model, "type").dump()));
    }
    byte_fallback_ = member(model, "byte_fallback") == true;
    read_merges(member(model, "merges"));
    read_tokens();
    read_ids();
    out_.chat_templates = own_.chat_templates();
    byte_fallback_ ? as_scores() : as_ranks(member(model, "ignore_merges") == true);
    return std::move(out_);
  }

 private:
  void read_merges(const Json& merges) {
    for (const Json& merge : merges) {
      if (merge.is_string()) {
        out_.merges.push_back(merge.get<std::string>());
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        out_.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
      } else {
        fail(ErrorKind::kCorrupt, "{}/tokenizer.json: a merge is neither a text nor a pair of texts", folder_);
      }
    }
  }

  void read_tokens() {
    if (own_.vocab_size() > size_) {
      refuse(folder_, fmt::format("it has {} tokens, but the model's table has {} rows", own_.vocab_size(), size_));
    }
    std::unordered_set<std::string> typed;  // found in a text as they are, and part of it
    for (const Json& token : member(json_, "added_tokens")) {
      if (member(token, "content").is_string() && member(token, "special") != true)
        typed.insert(member(token, "content").get<std::string>());
    }
    const auto unknown = own_.special_tokens().find("unk_token");
    for (Token id = 0; id < static_cast<Token>(size_); ++id) {
      const std::string text = id < own_.vocab_size() ? own_.token_text(id) : std::string();
      GgufTokenType type = GgufTokenType::kNormal;
      if (text.empty()) {
        type = GgufTokenType::kUnused;
      } else if (byte_fallback_ && unknown != own_.special_tokens().end() && unknown->second == text) {
        type = GgufTokenType::kUnknown;
      } else if (own_.is_special(id)) {
        type = GgufTokenType::kControl;
      } else if (byte_fallback_ && text.size() == 6 && text.starts_with("<0x") && text.ends_with('>')) {
        type = GgufTokenType::kByte;
      } else if (typed.contains(text)) {
        type = GgufTokenType::kUserDefined;
      }
      out_.tokens.push_back(text.empty() ? fmt::format("[PAD{}]", id) : text);
      out_.types.push_back(static_cast<int64_t>(type));
    }
  }

  void read_ids() {
    constexpr std::pair<const char*, const char*> kNames[] = {
        {"bos_token", "bos"},     {"eos_token", "eos"}, {"unk_token", "unknown"}, {"sep_token", "seperator"},
        {"pad_token", "padding"}, {"cls_token", "cls"}, {"mask_token", "mask"}};
    for (const auto& [hf, gguf] : kNames) {
      const auto named = own_.special_tokens().find(hf);
      if (named != own_.special_tokens().end()) out_.ids[gguf] = own_.id_of(named->second);
    }
    const std::vector<Token> around = own_.encode("a", true, SpecialText::kPlain);
    out_.add_bos = own_.adds_bos();
    out_.add_eos = own_.eos().has_value() && !around.empty() && around.back() == *own_.eos();
  }

  // Whether a reader of the file splits the probe as the folder's tokenizer does.
  bool agrees() const {
    const Tokenizer read = Tokenizer::from_gguf(out_.view());
    for (const std::string_view text : {kProbe, std::string_view(" leading"), std::string_view("trailing \n ")}) {
      if (read.encode(text, true, SpecialText::kParse) != own_.encode(text, true, SpecialText::kParse)) return false;
    }
    return true;
  }

  void as_scores() {
    out_.model = vocab_model_name(VocabModel::kScores);
    out_.pre = "default";
    out_.scores = scores_of(out_);
    bool prefix = false;
    for (const Json& step : flat(member(json_, "normalizer"), "normalizers"))
      prefix = prefix || member(step, "type") == "Prepend";
    for (const Json& step : flat(member(json_, "pre_tokenizer"), "pretokenizers")) {
      prefix = prefix || (member(step, "type") == "Metaspace" && member(step, "prepend_scheme") != "never");
    }
    out_.add_space_prefix = prefix;
    const std::vector<std::string> merges = std::move(out_.merges);  // the scores say them
    out_.merges.clear();
    if (!agrees()) refuse(folder_, "as a vocabulary with scores it splits texts in another way");
  }

  void as_ranks(bool ignore_merges) {
    out_.model = vocab_model_name(VocabModel::kRanks);
    const Json steps = flat(member(json_, "pre_tokenizer"), "pretokenizers");
    const Json normalizers = flat(member(json_, "normalizer"), "normalizers");
    const bool nfc = !normalizers.empty() && member(normalizers.back(), "type") == "NFC";
    // Those that say the same come first: the others differ in spelling only, if they agree.
    std::vector<const PreTokenizer*> rows;
    for (const PreTokenizer& row : pre_tokenizers()) {
      if (!row.byte_level) continue;
      const Json own = flat(Json::parse(pre_tokenizer_json(row)), "pretokenizers");
      const bool same = own == steps && row.ignore_merges == ignore_merges && row.nfc == nfc;
      rows.insert(same ? rows.begin() : rows.end(), &row);
    }
    for (const PreTokenizer* row : rows) {
      out_.pre = std::string(split(row->names, ' ').front());
      if (agrees()) return;
    }
    refuse(folder_, "none of the pre-tokenizers that GGUF names splits texts as it does");
  }

  const std::string& folder_;
  const Tokenizer own_;
  const Json json_;
  const int64_t size_;
  bool byte_fallback_ = false;
  ExportedVocab out_;
};

}  // namespace

GgufVocab ExportedVocab::view() const {
  GgufVocab vocab;
  vocab.model = model;
  vocab.pre = pre;
  vocab.tokens.assign(tokens.begin(), tokens.end());
  vocab.scores = scores;
  vocab.types = types;
  vocab.merges.assign(merges.begin(), merges.end());
  const auto id = [&](const char* name) {
    const auto found = ids.find(name);
    return found == ids.end() ? std::nullopt : found->second;
  };
  vocab.bos = id("bos");
  vocab.eos = id("eos");
  vocab.unk = id("unknown");
  vocab.sep = id("seperator");
  vocab.pad = id("padding");
  vocab.cls = id("cls");
  vocab.mask = id("mask");
  vocab.add_bos = add_bos;
  vocab.add_eos = add_eos;
  vocab.add_space_prefix = add_space_prefix;
  vocab.chat_templates = chat_templates;
  return vocab;
}

ExportedVocab export_vocab(const std::string& folder, int64_t size) { return Exporter(folder, size).run(); }

}  // namespace baize
