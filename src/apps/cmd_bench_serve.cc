// baize bench serve: measures any OpenAI-compatible server under load.
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fstream>
#include <memory>
#include <optional>

#include "apps/commands.h"
#include "apps/load_client.h"
#include "apps/load_page.h"
#include "apps/load_plan.h"
#include "apps/load_report.h"
#include "apps/load_stream.h"
#include "base/error.h"
#include "base/json.h"
#include "base/random.h"

namespace baize::apps {

namespace {

struct ServerBenchArgs {
  std::string url, model, endpoint = "chat", lengths = "fixed", api_key, extra, json, html;
  LoadShape shape;
  int64_t concurrency = 0, shared_prefix = 0, warmup = 0;
  std::optional<uint64_t> seed;
  double slo_ttft = 0, slo_itl = 0, slo_e2e = 0, timeout = 600;
  bool ignore_eos = true, stream = true;
};

constexpr int64_t kClosedLoop = 8;  // requests at a time, where neither a rate nor a concurrency is given

[[noreturn]] void refuse_status(int status, const std::string& sentence, const std::string& url) {
  if (status == 401 || status == 403) {
    fail(ErrorKind::kNetwork, "{} wants a valid API key: give --api-key or set OPENAI_API_KEY (HTTP {}: {})", url,
         status, sentence);
  }
  const ErrorKind kind = status == 404 ? ErrorKind::kNotFound : status == 429 ? ErrorKind::kBusy : ErrorKind::kNetwork;
  fail(kind, "{} answered HTTP {}: {}", url, status, sentence);
}

std::string first_model(LoadClient& client, const std::string& url) {
  const LoadAnswer answer = client.get("/v1/models");
  if (answer.status != 200) refuse_status(answer.status, error_sentence(answer.body), url + "/v1/models");
  const Json list = parse_json(answer.body, url + "/v1/models");
  const auto data = list.is_object() ? list.find("data") : list.end();
  const bool any = list.is_object() && data != list.end() && data->is_array() && !data->empty();
  if (!any || !data->front().is_object() || !data->front().contains("id") || !data->front()["id"].is_string()) {
    fail(ErrorKind::kNetwork, "{}/v1/models lists no model: name one by --model", url);
  }
  return data->front()["id"].get<std::string>();
}

// Makes the bodies of requests and sends them.
class ServerBench {
 public:
  explicit ServerBench(const ServerBenchArgs& args)
      : args_(args), address_(parse_load_address(args.url)), client_(address_, args.api_key, args.timeout) {
    if (!args.extra.empty()) {
      extra_ = parse_json(args.extra, "--body");
      if (!extra_.is_object()) fail(ErrorKind::kInvalidArgument, "--body takes a JSON object, not {}", args.extra);
    }
    setup_.model = args.model.empty() ? first_model(client_, address_.url()) : args.model;
    setup_.url = address_.url();
    setup_.endpoint = args.endpoint == "chat" ? "/v1/chat/completions" : "/v1/completions";
    setup_.streamed = args.stream;
    setup_.slo_ttft = args.slo_ttft;
    setup_.slo_itl = args.slo_itl;
    setup_.slo_e2e = args.slo_e2e;
    setup_.seed = args.seed.value_or(0);
    concurrency_ = args.concurrency > 0 || args.shape.rate > 0 ? args.concurrency : kClosedLoop;
    describe();
  }

  int run() {
    const WordRate words = measure_words();
    const uint64_t text_seed = args_.seed.value_or(random_seed());
    const Prompts prompts(text_seed, args_.shared_prefix > 0 ? words.words_for(args_.shared_prefix) : 0);
    if (args_.warmup > 0) warm_up(words, text_seed);
    LoadRun load = make_run(plan_load(args_.shape, setup_.seed));
    load.concurrency = concurrency_;
    load.body = [&](size_t i) {
      return body(prompts.make(i, words.words_for(load.plan[i].input_tokens)), load.plan[i].output_tokens);
    };
    const bool watched = isatty(STDERR_FILENO) != 0;
    if (watched) {
      load.progress = [&](size_t done) { fmt::print(stderr, "\r{} of {} requests ", done, load.plan.size()); };
    }
    const std::vector<LoadResult> results = client_.run(load);
    if (watched) fmt::print(stderr, "\r\033[K");
    setup_.interrupted = client_.interrupted();
    return report(results);
  }

 private:
  void describe() {
    const LoadShape& shape = args_.shape;
    if (shape.rate > 0) {
      setup_.load = fmt::format("open loop: {} requests, {:g} a second", shape.requests, shape.rate);
      if (concurrency_ > 0) setup_.load += fmt::format(", at most {} at a time", concurrency_);
    } else {
      setup_.load = fmt::format("closed loop: {} requests, {} at a time", shape.requests, concurrency_);
    }
    setup_.lengths = shape.sharegpt ? "lengths as in ShareGPT"
                                    : fmt::format("{} tokens in, {} out", shape.input_tokens, shape.output_tokens);
    if (args_.shared_prefix > 0) setup_.lengths += fmt::format(", the first {} shared", args_.shared_prefix);
  }

  std::string body(const std::string& prompt, int64_t tokens) const {
    Json json = {{"model", setup_.model}, {"max_tokens", tokens}, {"temperature", 0}};
    if (args_.endpoint == "chat") {
      json["messages"] = Json::array({{{"role", "user"}, {"content", prompt}}});
    } else {
      json["prompt"] = prompt;
    }
    if (args_.stream) {
      json["stream"] = true;
      json["stream_options"] = {{"include_usage", true}};
    }
    if (args_.ignore_eos) json["ignore_eos"] = true;
    json.update(extra_);
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  LoadRun make_run(std::vector<PlannedRequest> plan) const {
    LoadRun load;
    load.plan = std::move(plan);
    load.chat = args_.endpoint == "chat";
    load.streamed = args_.stream;
    return load;
  }

  // How many tokens the server counts in `prompt`, or -1. A request that cannot succeed is told before the test.
  int64_t probe(const std::string& prompt) {
    LoadRun load = make_run({{0, 0, 1}});
    load.body = [&](size_t) { return body(prompt, 1); };
    const LoadResult result = client_.run(load).front();
    if (client_.interrupted()) fail(ErrorKind::kCancelled, "stopped before anything was measured");
    if (result.state == LoadResult::kOk) return result.prompt_tokens;
    const std::string where = setup_.url + setup_.endpoint;
    if (args_.ignore_eos && result.sentence.find("ignore_eos") != std::string::npos) {
      fail(ErrorKind::kUnsupported, "{} does not know ignore_eos: give --no-ignore-eos ({})", where, result.sentence);
    }
    if (result.failure.starts_with("HTTP ")) refuse_status(std::stoi(result.failure.substr(5)), result.sentence, where);
    fail(ErrorKind::kNetwork, "{}: {}: {}", where, result.failure, result.sentence);
  }

  // Any server counts the tokens of what it was asked, so two small requests tell how long prompts become.
  WordRate measure_words() {
    const int64_t few = probe("the"), many = few < 0 ? -1 : probe(every_word());
    setup_.counted = few >= 0;
    return fit_word_rate(1, few, word_count(), many);
  }

  void warm_up(const WordRate& words, uint64_t text_seed) {
    LoadShape shape = args_.shape;
    shape.requests = args_.warmup;
    shape.rate = 0;
    LoadRun load = make_run(plan_load(shape, setup_.seed + 1));
    load.concurrency = concurrency_ > 0 ? concurrency_ : kClosedLoop;
    const Prompts prompts(text_seed + 1, 0);
    load.body = [&](size_t i) {
      return body(prompts.make(i, words.words_for(load.plan[i].input_tokens)), load.plan[i].output_tokens);
    };
    for (const LoadResult& result : client_.run(load)) {
      if (result.state == LoadResult::kFailed) {
        fail(ErrorKind::kNetwork, "a request of the warm-up failed: {}: {}", result.failure, result.sentence);
      }
    }
    if (client_.interrupted()) fail(ErrorKind::kCancelled, "stopped before anything was measured");
  }

  int report(const std::vector<LoadResult>& results) const {
    const LoadSummary summary = summarise(setup_, results);
    if (!args_.json.empty()) {
      const std::string json = load_json(setup_, summary, results).dump(2, ' ', false, Json::error_handler_t::replace);
      args_.json == "-" ? fmt::print("{}\n", json) : write_file(args_.json, json + "\n");
    }
    if (!args_.html.empty()) write_file(args_.html, load_page(setup_, summary, results));
    if (args_.json != "-") fmt::print("{}", load_table(setup_, summary));
    if (setup_.interrupted) return exit_code(ErrorKind::kCancelled);
    if (summary.ok == 0) {
      const auto& [kind, failure] = *summary.failures.begin();
      fail(ErrorKind::kNetwork, "no request succeeded; {}: {}", kind, failure.first);
    }
    return 0;
  }

  static void write_file(const std::string& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.close();
    if (!file) fail(ErrorKind::kIo, "cannot write {}", path);
  }

  const ServerBenchArgs& args_;
  const LoadAddress address_;
  LoadClient client_;
  LoadSetup setup_;
  int64_t concurrency_ = 0;
  Json extra_ = Json::object();
};

void check(const ServerBenchArgs& args) {
  const LoadShape& shape = args.shape;
  if (!shape.sharegpt && args.shared_prefix >= shape.input_tokens) {
    fail(ErrorKind::kInvalidArgument, "--shared-prefix {} leaves nothing of --input-tokens {} for the rest",
         args.shared_prefix, shape.input_tokens);
  }
}

void add_load_options(CLI::App& command, ServerBenchArgs& args) {
  const CLI::Range many(int64_t{1}, int64_t{10'000'000}), length(int64_t{1}, int64_t{1} << 24);
  command.add_option("--requests", args.shape.requests, "so many requests")
      ->check(many)
      ->type_name("N")
      ->capture_default_str();
  command
      .add_option("--concurrency", args.concurrency,
                  "so many at a time (8; with --rate: at most so many, else without limit)")
      ->check(CLI::Range(int64_t{1}, int64_t{60'000}))
      ->type_name("N");
  command
      .add_option("--rate", args.shape.rate,
                  "open loop: so many arrive a second on average, at random times, whether others are done or not")
      ->check(CLI::Range(1e-3, 1e6))
      ->type_name("X");
  command.add_option("--lengths", args.lengths, "fixed, or sharegpt: short and long ones as people send them")
      ->check(CLI::IsMember({"fixed", "sharegpt"}))
      ->capture_default_str();
  command.add_option("--input-tokens", args.shape.input_tokens, "of each prompt, when fixed")
      ->check(length)
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--output-tokens", args.shape.output_tokens, "of each answer, when fixed")
      ->check(length)
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--shared-prefix", args.shared_prefix, "tokens that all prompts begin with")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->type_name("N");
  command.add_option("--warmup", args.warmup, "requests before, that do not count")
      ->check(CLI::Range(int64_t{0}, int64_t{100'000}))
      ->type_name("N");
  command.add_option(
      "--seed", args.seed,
      "repeats lengths, arrivals and words; else the words are new ones each time, unknown to any cache");
}

void add_server_options(CLI::App& command, ServerBenchArgs& args) {
  command.add_option("--url", args.url, "address of the server, such as http://127.0.0.1:8000")->required();
  command.add_option("--model", args.model, "its name there (the first of /v1/models)");
  command.add_option("--endpoint", args.endpoint, "/v1/chat/completions or /v1/completions")
      ->check(CLI::IsMember({"chat", "completions"}))
      ->capture_default_str();
  command.add_option("--api-key", args.api_key, "sent as a bearer token")->envname("OPENAI_API_KEY");
  command.add_flag("--ignore-eos,!--no-ignore-eos", args.ignore_eos,
                   "answers do not end before their length (an extra field, which not every server knows)");
  command.add_flag("--stream,!--no-stream", args.stream, "answers come token by token");
  command.add_option("--body", args.extra, "more fields of each request, such as '{\"temperature\": 0.7}'")
      ->type_name("JSON");
  command.add_option("--timeout", args.timeout, "the longest a request may take")
      ->check(CLI::Range(0.001, 3600.0))
      ->type_name("SECONDS")
      ->capture_default_str();
}

void add_report_options(CLI::App& command, ServerBenchArgs& args) {
  const CLI::Range limit(0.0, 1e9);
  command.add_option("--slo-ttft", args.slo_ttft, "goodput counts answers whose first token came within this")
      ->check(limit)
      ->type_name("MS");
  command.add_option("--slo-itl", args.slo_itl, "... and whose other tokens came within this each, on average (TPOT)")
      ->check(limit)
      ->type_name("MS");
  command.add_option("--slo-e2e", args.slo_e2e, "... and which were whole within this")->check(limit)->type_name("MS");
  command.add_option("--json", args.json, "write the numbers and every request there; - prints them")
      ->type_name("FILE");
  command.add_option("--html", args.html, "write a page of plots there")->type_name("FILE");
}

}  // namespace

void add_bench_serve_command(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("serve", "Measure a server of OpenAI's interface under load");
  const auto args = std::make_shared<ServerBenchArgs>();
  add_server_options(*command, *args);
  add_load_options(*command, *args);
  add_report_options(*command, *args);
  command->callback([args] {
    args->shape.sharegpt = args->lengths == "sharegpt";
    check(*args);
    const int code = ServerBench(*args).run();
    if (code != 0) throw CLI::RuntimeError(code);
  });
}

}  // namespace baize::apps
