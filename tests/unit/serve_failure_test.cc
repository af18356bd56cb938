// Answers that fail while they run, by an engine that fails or by an exception of our own: their client is told so, the
// failure is counted, and nobody else notices.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <new>
#include <thread>

#include "base/json.h"
#include "base/text.h"
#include "model/family.h"
#include "serve/api_error.h"
#include "serve/generation.h"
#include "serve/http_server.h"
#include "unit/engine_probe.h"
#include "unit/text_vocabularies.h"

namespace baize::serve {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A real engine over a tiny model whose tokens are bytes.
struct Served {
  test::Probe probe;
  test::ProbeBackend backend{probe};
  std::unique_ptr<Engine> engine;
  std::unique_ptr<ModelText> text;
  ServedModel model;
  LabelledCounter errors;

  Served() {
    const auto checkpoint = open_checkpoint(std::string(BAIZE_GOLDENS_DIR) + "/llama");
    const std::shared_ptr<const Model> bound =
        bind(checkpoint, make_spec(*checkpoint), backend, {.compute = Compute::kExact});
    engine = std::make_unique<Engine>(bound, backend, Compute::kExact, EngineLimits{.context = 256});
    Tokenizer tokenizer = Tokenizer::from_gguf(test::byte_vocab().vocab());
    ChatTemplate chat(tokenizer);
    text.reset(new ModelText{std::move(tokenizer), std::move(chat), {}});
    model.name = "tiny";
    model.engine = engine.get();
    model.text = text.get();
  }

  static std::string shown(const LabelledCounter& counter) {
    std::string out;
    counter.write(out, "n", "label", "");
    return out;
  }
};

// One request, from its parameters to its whole reply.
struct Asked {
  std::mutex mutex;
  std::condition_variable woken;
  bool wake = true;
  std::unique_ptr<Task> task;
  Reply reply;

  Asked(Served& served, const std::string& more, std::unique_ptr<AnswerFormat> (*format)(FormatInfo)) {
    const std::string body = R"({"prompt":"abc","temperature":0,"ignore_eos":true,"max_tokens":12)" + more + "}";
    const GenerationCall call{.dialect = kCompletion, .format = format, .received = 0, .errors = served.errors};
    task = begin_generation(served.model, parse_params(body, kCompletion), call, [this] {
      const std::lock_guard lock(mutex);
      wake = true;
      woken.notify_all();
    });
  }

  const Reply& finish() {
    while (!reply.done) {
      {
        std::unique_lock lock(mutex);
        woken.wait(lock, [&] { return wake; });
        wake = false;
      }
      task->advance(reply);
    }
    return reply;
  }
};

// The events of a stream, each checked to be whole.
std::vector<Json> events_of(const std::string& body) {
  std::vector<Json> events;
  EXPECT_TRUE(body.ends_with("\n\n")) << body;
  for (size_t at = 0, end = 0; (end = body.find("\n\n", at)) != std::string::npos; at = end + 2) {
    const std::string event = body.substr(at, end - at);
    EXPECT_TRUE(event.starts_with("data: ")) << event;
    if (event != "data: [DONE]") events.push_back(parse_json(event.substr(6), "event"));
  }
  return events;
}

// Writes half of an event and then throws, from the third one on; not streamed it finds no memory.
class Throwing : public AnswerFormat {
 public:
  explicit Throwing(std::unique_ptr<AnswerFormat> inner) : inner_(std::move(inner)) {}
  static std::unique_ptr<AnswerFormat> make(FormatInfo info) {
    return std::make_unique<Throwing>(completion_format(std::move(info)));
  }
  void begin(std::string& out, const serve::Answer& answer) override { inner_->begin(out, answer); }
  void delta(std::string& out, serve::Answer& answer, const Delta& delta) override {
    if (++deltas_ < 3) return inner_->delta(out, answer, delta);
    out += "data: {\"half\":";
    throw std::runtime_error("a bug of ours");
  }
  void finish(std::string& out, const serve::Answer& answer) override { inner_->finish(out, answer); }
  void end(std::string& out, const TotalUsage& usage) override { inner_->end(out, usage); }
  void fail(std::string& out, const ApiError& error) override { inner_->fail(out, error); }
  void whole(std::string& out, std::span<serve::Answer* const>, const TotalUsage&) override {
    out += "{\"half\":";
    throw std::bad_alloc();
  }

 private:
  std::unique_ptr<AnswerFormat> inner_;
  int deltas_ = 0;
};

TEST(Failure, OfTheEngineEndsOnlyThatStream) {
  Served served;
  const std::string whole = Asked(served, "", completion_format).finish().body;
  const std::string text = parse_json(whole, "answer")["choices"][0]["text"];
  served.probe.nan_at = static_cast<int64_t>(served.probe.draws.size()) + 7;  // of one of the two, whichever
  Asked one(served, ",\"stream\":true", completion_format), other(served, ",\"stream\":true", completion_format);
  int failed = 0;
  for (Asked* each : {&one, &other}) {
    const std::vector<Json> events = events_of(each->finish().body);
    EXPECT_EQ(each->reply.status, 200);
    std::string got;
    for (const Json& event : events) {
      if (event.contains("choices")) got += event["choices"][0]["text"];
    }
    if (events.back().contains("error")) {
      ++failed;
      EXPECT_EQ(events.back()["error"]["type"], "server_error");
      EXPECT_EQ(events.back()["error"]["code"], "internal_error");
      EXPECT_TRUE(text.starts_with(got) && got.size() < text.size()) << got;
    } else {
      EXPECT_EQ(got, text);
      EXPECT_THAT(each->reply.body, EndsWith("data: [DONE]\n\n"));
    }
  }
  EXPECT_EQ(failed, 1);
  EXPECT_EQ(Served::shown(served.errors), "n{label=\"internal_error\"} 1\n");
  EXPECT_EQ(Served::shown(served.model.metrics->finished), "n{label=\"error\"} 1\nn{label=\"length\"} 2\n");
  EXPECT_EQ(Asked(served, "", completion_format).finish().status, 200);
}

TEST(Failure, OfTheEngineIsAnErrorWhenNotStreamed) {
  Served served;
  served.probe.nan_at = 2;
  Asked asked(served, "", completion_format);
  const Reply& reply = asked.finish();
  EXPECT_EQ(reply.status, 500);
  EXPECT_FALSE(reply.streamed);
  const Json error = parse_json(reply.body, "reply")["error"];
  EXPECT_EQ(error["code"], "internal_error");
  EXPECT_TRUE(error["param"].is_null());
  EXPECT_EQ(Asked(served, "", completion_format).finish().status, 200);
}

TEST(Failure, AnExceptionEndsAStreamByAnError) {
  Served served;
  Asked asked(served, R"(,"stream":true,"n":2,"max_tokens":200)", Throwing::make);
  const std::vector<Json> events = events_of(asked.finish().body);
  ASSERT_EQ(events.size(), 3u);  // two were whole, nothing of the third stayed
  EXPECT_EQ(events[2]["error"]["message"], "a bug of ours");
  EXPECT_EQ(Served::shown(served.errors), "n{label=\"internal_error\"} 1\n");
  EXPECT_EQ(Asked(served, "", completion_format).finish().status, 200);
  while (served.engine->stats().running > 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // both of its answers were cancelled
  EXPECT_LT(served.engine->stats().drawn, 2 * 200);
}

TEST(Failure, AnExceptionIsAnErrorWhenNotStreamed) {
  Served served;
  Asked asked(served, "", Throwing::make);
  EXPECT_EQ(asked.finish().status, 503);
  EXPECT_EQ(parse_json(asked.reply.body, "reply")["error"]["code"], "out_of_resources");
  EXPECT_EQ(Served::shown(served.errors), "n{label=\"out_of_resources\"} 1\n");
}

// Tasks by path: /first throws at once, /later after a first piece, /fine waits until it is let go.
class Failing : public Service {
 public:
  std::unique_ptr<Task> handle(const Request& request, Reply& reply, const Wake& wake) override {
    if (request.path == "/fine") {
      const std::lock_guard lock(mutex_);
      let_go_ = wake;
      waits_.notify_all();
    }
    reply.streamed = request.path == "/later";
    return std::make_unique<Work>(request.path, wake, released_);
  }
  void refuse(int status, const std::string& why, Reply& reply) override {
    ++refused;
    write_error(ApiError(status, "internal_error", "", why), reply);
  }
  void wait_for_fine() {
    std::unique_lock lock(mutex_);
    waits_.wait(lock, [&] { return let_go_ != nullptr; });
  }
  void release() {
    released_ = true;
    const std::lock_guard lock(mutex_);
    let_go_();
  }

  std::atomic<int> refused{0};

 private:
  struct Work : Task {
    Work(std::string p, Wake w, std::atomic<bool>& r) : path(std::move(p)), wake(std::move(w)), released(r) {}
    void advance(Reply& reply) override {
      if (path == "/fine") {
        reply.body = "fine";
        reply.done = released;
        return;
      }
      if (path == "/first" || given) throw std::runtime_error("a bug of ours");
      given = true;
      reply.body = "piece";
      wake();
    }
    std::string path;
    Wake wake;
    std::atomic<bool>& released;
    bool given = false;
  };

  std::mutex mutex_;
  std::condition_variable waits_;
  Wake let_go_;
  std::atomic<bool> released_{false};
};

class Connection {
 public:
  explicit Connection(const std::string& url) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Connection() { ::close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void get(const std::string& path, bool last) const {
    const std::string head = "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + (last ? "Connection: close\r\n\r\n" : "\r\n");
    EXPECT_EQ(::send(socket_, head.data(), head.size(), 0), static_cast<ssize_t>(head.size()));
  }
  /// Until the server closes it.
  std::string rest() const {
    std::string all;
    char buffer[4096];
    for (ssize_t size = 0; (size = ::recv(socket_, buffer, sizeof(buffer), 0)) > 0;) {
      all.append(buffer, static_cast<size_t>(size));
    }
    return all;
  }

 private:
  int socket_;
};

TEST(Failure, OfATaskIsItsConnectionsBusinessOnly) {
  Failing service;
  HttpOptions options;
  options.port = 0;
  HttpServer server(options, service);
  server.listen();
  std::thread thread([&] { server.run(); });

  auto fine = std::make_unique<Connection>(server.url());
  fine->get("/fine", true);
  service.wait_for_fine();
  {
    const Connection first(server.url());
    first.get("/first", false);
    first.get("/first", true);  // the connection goes on
    const std::string told = first.rest();
    EXPECT_THAT(told, StartsWith("HTTP/1.1 500 Internal Server Error\r\n"));
    EXPECT_NE(told.find("HTTP/1.1 500", 10), std::string::npos);
    EXPECT_THAT(told, HasSubstr("the server failed to answer: a bug of ours"));
  }
  {
    const Connection later(server.url());
    later.get("/later", false);
    const std::string cut = later.rest();  // a body without its last chunk: no client takes it for a whole one
    EXPECT_THAT(cut, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(cut, EndsWith("5\r\npiece\r\n"));
    EXPECT_THAT(cut, Not(HasSubstr("0\r\n\r\n")));
  }
  service.release();
  EXPECT_THAT(fine->rest(), EndsWith("\r\n\r\nfine"));
  fine.reset();
  EXPECT_EQ(service.refused, 3);

  server.stop();
  thread.join();
}

}  // namespace
}  // namespace baize::serve
