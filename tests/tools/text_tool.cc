// text_tool: the text layer for the Python tests. One JSON request a line on standard input, one JSON answer a line on
// standard output: {"ok": ...}, or {"error": message, "kind": kind}.

#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "text/chat_template.h"
#include "text/detokenizer.h"
#include "text/pretokenizer_table.h"
#include "text/stop_strings.h"
#include "text/tokenizer.h"

namespace baize {
namespace {

using OrderedJson = nlohmann::ordered_json;  // tool schemas keep the order of their members

std::unique_ptr<Tokenizer> g_tokenizer;

template <typename T>
std::optional<T> optional_member(const OrderedJson& object, const char* name) {
  return object.contains(name) ? std::optional(object[name].get<T>()) : std::nullopt;
}

/// The vocabulary of a JSON file; `storage` owns its texts.
GgufVocab read_vocab(const std::string& path, OrderedJson& storage) {
  storage = OrderedJson::parse(read_file(path));
  GgufVocab vocab;
  vocab.model = storage.value("model", "");
  vocab.pre = storage.value("pre", "");
  for (const auto& text : storage["tokens"]) vocab.tokens.push_back(text.get_ref<const std::string&>());
  if (storage.contains("merges")) {
    for (const auto& text : storage["merges"]) vocab.merges.push_back(text.get_ref<const std::string&>());
  }
  vocab.scores = storage.value("scores", std::vector<float>());
  vocab.types = storage.value("types", std::vector<int64_t>());
  for (int byte : storage.value("charsmap", std::vector<int>())) {
    vocab.precompiled_charsmap.push_back(static_cast<char>(byte));
  }
  const auto id = [&](const char* name) { return optional_member<Token>(storage, name); };
  const auto flag = [&](const char* name) { return optional_member<bool>(storage, name); };
  vocab.bos = id("bos"), vocab.eos = id("eos"), vocab.eot = id("eot"), vocab.eom = id("eom"), vocab.unk = id("unk");
  vocab.sep = id("sep"), vocab.pad = id("pad"), vocab.cls = id("cls"), vocab.mask = id("mask");
  vocab.add_bos = flag("add_bos"), vocab.add_eos = flag("add_eos"), vocab.add_sep = flag("add_sep");
  vocab.add_space_prefix = flag("add_space_prefix");
  vocab.remove_extra_whitespaces = flag("remove_extra_whitespaces");
  vocab.normalizer_lowercase = flag("lowercase"), vocab.normalizer_strip_accents = flag("strip_accents");
  vocab.chat_templates = storage.value("chat_templates", std::map<std::string, std::string>());
  return vocab;
}

OrderedJson describe(double milliseconds) {
  const Tokenizer& tokenizer = *g_tokenizer;
  OrderedJson special = OrderedJson::array();
  for (Token id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) special.push_back(id);
  }
  const auto id = [](std::optional<Token> token) { return token ? OrderedJson(*token) : OrderedJson(); };
  return {{"milliseconds", milliseconds},
          {"vocab_size", tokenizer.vocab_size()},
          {"special", special},
          {"bos", id(tokenizer.bos())},
          {"eos", id(tokenizer.eos())},
          {"adds_bos", tokenizer.adds_bos()},
          {"end_tokens", tokenizer.end_tokens()},
          {"special_tokens", tokenizer.special_tokens()},
          {"chat_templates", tokenizer.chat_templates()}};
}

OrderedJson load(const OrderedJson& request) {
  OrderedJson storage;
  GgufVocab vocab;
  if (request.contains("vocab")) vocab = read_vocab(request["vocab"], storage);
  const auto start = std::chrono::steady_clock::now();
  Tokenizer tokenizer =
      request.contains("folder") ? Tokenizer::from_folder(request["folder"]) : Tokenizer::from_gguf(vocab);
  const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
  g_tokenizer = std::make_unique<Tokenizer>(std::move(tokenizer));
  return describe(elapsed.count());
}

/// {"text" or "hex", "add_special", "plain"} -> ids
OrderedJson encode(const OrderedJson& request) {
  std::string text = request.value("text", "");
  const std::string hex = request.value("hex", "");
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    text.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  const auto special = request.value("plain", false) ? SpecialText::kPlain : SpecialText::kParse;
  return g_tokenizer->encode(text, request.value("add_special", false), special);
}

/// {"ids", "show_special", "continues"} -> the text at once and as it streams
OrderedJson decode(const OrderedJson& request) {
  const auto ids = request["ids"].get<std::vector<Token>>();
  const bool show = request.value("show_special", false);
  Detokenizer stream(*g_tokenizer, {.show_special = show, .continues_text = request.value("continues", false)});
  OrderedJson chunks = OrderedJson::array();
  for (Token id : ids) chunks.push_back(stream.push(id));
  chunks.push_back(stream.flush());
  return {{"text", g_tokenizer->decode(ids, show)}, {"chunks", chunks}};
}

/// {"template" or nothing, "constants", "messages", "tools", "variables", "add_generation_prompt", "now"} -> text
OrderedJson render(const OrderedJson& request) {
  const std::time_t now = request.value("now", std::time_t{0});
  const auto clock = [now] { return now; };
  const auto constants = request.value("constants", std::map<std::string, std::string>());
  const auto make = [&] {
    if (!request.contains("template")) return ChatTemplate(*g_tokenizer, clock);
    return ChatTemplate({{"default", request["template"].get<std::string>()}}, constants, clock);
  };
  const auto text = [&](const char* name) { return request.contains(name) ? request[name].dump() : std::string(); };
  return make().render({.messages = text("messages"),
                        .tools = text("tools"),
                        .variables = text("variables"),
                        .add_generation_prompt = request.value("add_generation_prompt", false)});
}

OrderedJson answer(const OrderedJson& request) {
  const std::string op = request.at("op");
  if (op == "load") return load(request);
  if (op == "encode") return encode(request);
  if (op == "decode") return decode(request);
  if (op == "render") return render(request);
  if (op == "id") return g_tokenizer->id_of(request["token"].get<std::string>()).value_or(-1);
  if (op == "token") return g_tokenizer->token_text(request["id"]);
  if (op == "pre_tokenizers") {
    OrderedJson all = OrderedJson::object();
    for (const PreTokenizer& row : pre_tokenizers()) {
      for (std::string_view name : split(row.names, ' ')) {
        all[std::string(name)] = OrderedJson::parse(pre_tokenizer_json(row));
      }
    }
    return all;
  }
  fail(ErrorKind::kInvalidArgument, "there is no operation '{}'", op);
}

}  // namespace
}  // namespace baize

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    baize::OrderedJson reply;
    try {
      reply["ok"] = baize::answer(baize::OrderedJson::parse(line));
    } catch (const baize::Error& error) {
      reply = {{"error", error.what()}, {"kind", baize::to_string(error.kind())}};
    }
    std::cout << reply.dump(-1, ' ', false, baize::OrderedJson::error_handler_t::replace) << std::endl;
  }
}
