#include "apps/load_client.h"

#include <utility>  // which Boost 1.74 forgets

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/parser.hpp>
#include <cmath>
#include <csignal>
#include <limits>
#include <set>

#include "apps/load_link.h"
#include "apps/load_stream.h"
#include "base/clock.h"
#include "base/error.h"
#include "store/http.h"

namespace baize::apps {

namespace http = boost::beast::http;

namespace {

constexpr size_t kReadBytes = 16 << 10;
constexpr uint32_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxErrorBody = 64 << 10;
constexpr size_t kMaxAnswer = 16 << 20;  // of a GET
constexpr const char* kStopped = "stopped";
constexpr auto kTick = std::chrono::milliseconds(100);

// Gives each piece of a body away as it comes, with the status of its answer.
struct PieceBody {
  using value_type = std::function<void(int status, std::string_view piece)>;

  class reader {
   public:
    template <bool request, class Fields>
    reader(http::header<request, Fields>& header, value_type& body) : body_(body) {
      if constexpr (!request) {
        status_ = [&header] { return static_cast<int>(header.result_int()); };
      }
    }
    void init(const boost::optional<uint64_t>&, error_code& error) { error = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, error_code& error) {
      error = {};
      size_t size = 0;
      for (auto at = net::buffer_sequence_begin(buffers); at != net::buffer_sequence_end(buffers); ++at) {
        const net::const_buffer piece = *at;
        body_(status_(), std::string_view(static_cast<const char*>(piece.data()), piece.size()));
        size += piece.size();
      }
      return size;
    }
    void finish(error_code& error) { error = {}; }

   private:
    std::function<int()> status_;
    value_type& body_;
  };
};

using Parser = http::response_parser<PieceBody>;

// One request on its way: what the deadline and Ctrl-C need to end it.
struct Exchange {
  explicit Exchange(std::set<Exchange*>& all) : all_(all) { all_.insert(this); }
  ~Exchange() { all_.erase(this); }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  LoadLink* link = nullptr;
  double deadline = 0;
  bool timed_out = false, stopped = false;

 private:
  std::set<Exchange*>& all_;
};

// How one attempt to get an answer ended.
struct Outcome {
  int status = 0;  // 0: no whole answer
  std::string failure, sentence;
  bool any_byte = false;  // of an answer
};

// Reads one answer; false when the connection ended or the bytes are no HTTP (`error`).
net::awaitable<bool> read_answer(LoadLink& link, Parser& parser, bool& any_byte, error_code& error) {
  while (!parser.is_done()) {
    const size_t size = co_await link.read(link.in.prepare(kReadBytes), error);
    link.in.commit(size);
    any_byte = any_byte || size > 0;
    if (error) {
      error_code ignored;
      if (parser.got_some()) parser.put_eof(ignored);  // an answer may last as long as its connection
      if (parser.is_done()) error = {};
      co_return parser.is_done();
    }
    while (link.in.size() > 0 && !parser.is_done()) {
      const size_t used = parser.put(link.in.data(), error);
      link.in.consume(used);
      if (error == http::error::need_more) break;
      if (error) co_return false;
    }
  }
  error = {};
  co_return true;
}

bool is_default_port(const LoadAddress& address) { return address.port == (address.tls ? "443" : "80"); }

}  // namespace

std::string LoadAddress::url() const {
  return fmt::format("{}://{}{}{}{}", tls ? "https" : "http", host, is_default_port(*this) ? "" : ":",
                     is_default_port(*this) ? "" : port, prefix);
}

LoadAddress parse_load_address(const std::string& text) {
  const std::string full = text.find("://") == std::string::npos ? "http://" + text : text;
  const std::string origin = store::origin_of(full);
  if (origin.empty()) {
    fail(ErrorKind::kInvalidArgument, "--url takes the address of a server, such as http://127.0.0.1:8000, not \"{}\"",
         text);
  }
  LoadAddress address;
  address.tls = origin.starts_with("https://");
  const size_t host = origin.find("://") + 3, colon = origin.rfind(':');
  address.host = origin.substr(host, colon - host);
  address.port = origin.substr(colon + 1);
  const size_t path = full.find('/', full.find("://") + 3);
  if (path != std::string::npos) address.prefix = full.substr(path, full.find_first_of("?#", path) - path);
  while (address.prefix.ends_with('/')) address.prefix.pop_back();
  if (address.prefix.ends_with("/v1")) address.prefix.resize(address.prefix.size() - 3);
  return address;
}

struct LoadClient::Impl {
  Impl(LoadAddress to, const std::string& api_key, double seconds);

  net::awaitable<void> dispatch(const LoadRun& run);
  net::awaitable<void> serve_one(const LoadRun& run, size_t index);
  net::awaitable<Outcome> ask(const std::string& message, const PieceBody::value_type& body);
  net::awaitable<Outcome> attempt(LoadLink& link, const std::string& message, const PieceBody::value_type& body);
  net::awaitable<void> pause(double until);
  std::string message(const char* method, const std::string& path, const std::string& body) const;
  template <typename Work>
  void work_off(Work work);
  void tick();
  void wait_for_interrupt();
  double now() const { return now_seconds() - origin; }

  const LoadAddress address;
  const double timeout;
  std::string headers;  // the same in every request
  net::io_context io{1};
  net::ssl::context tls{net::ssl::context::tls_client};
  LoadEndpoint endpoint;
  net::signal_set signals{io, SIGINT};
  net::steady_timer ticker{io}, event{io};
  std::vector<std::unique_ptr<LoadLink>> idle;
  std::set<Exchange*> active;
  std::vector<LoadResult> results;
  std::function<void(size_t)> progress;
  size_t in_flight = 0, done = 0;
  double origin = 0;
  bool interrupted = false;
  std::exception_ptr thrown;
};

LoadClient::Impl::Impl(LoadAddress to, const std::string& api_key, double seconds)
    : address(std::move(to)), timeout(seconds) {
  if (std::any_of(api_key.begin(), api_key.end(), [](char c) { return static_cast<unsigned char>(c) <= ' '; })) {
    fail(ErrorKind::kInvalidArgument, "the API key has spaces or line breaks in it");
  }
  headers = fmt::format("Host: {}{}{}\r\nUser-Agent: baize\r\nContent-Type: application/json\r\n", address.host,
                        is_default_port(address) ? "" : ":", is_default_port(address) ? "" : address.port);
  if (!api_key.empty()) headers += "Authorization: Bearer " + api_key + "\r\n";
  endpoint.host = address.host.starts_with('[') ? address.host.substr(1, address.host.size() - 2) : address.host;
  error_code error;
  endpoint.addresses = tcp::resolver(io).resolve(endpoint.host, address.port, error);
  if (error) {
    fail(ErrorKind::kNetwork, "cannot find the server {} ({}); check the address and the network", address.host,
         error.message());
  }
  if (address.tls) {
    tls.set_default_verify_paths();
    endpoint.tls = &tls;
  }
  wait_for_interrupt();
}

void LoadClient::Impl::wait_for_interrupt() {
  signals.async_wait([this](error_code error, int) {
    if (error) return;
    interrupted = true;
    error_code ignored;
    signals.clear(ignored);  // another one ends the process
    for (Exchange* exchange : active) {
      exchange->stopped = true;
      if (exchange->link != nullptr) exchange->link->close();
    }
    event.cancel();
  });
}

void LoadClient::Impl::tick() {
  ticker.expires_after(kTick);
  ticker.async_wait([this](error_code error) {
    if (error) return;
    const double time = now_seconds();
    for (Exchange* exchange : active) {
      if (time < exchange->deadline || exchange->timed_out) continue;
      exchange->timed_out = true;
      if (exchange->link != nullptr) exchange->link->close();
    }
    if (progress) progress(done);
    tick();
  });
}

std::string LoadClient::Impl::message(const char* method, const std::string& path, const std::string& body) const {
  return fmt::format("{} {}{} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{}", method, address.prefix, path, headers,
                     body.size(), body);
}

// Until that time (infinity: for ever), or until something else happens.
net::awaitable<void> LoadClient::Impl::pause(double until) {
  using Clock = net::steady_timer::clock_type;
  if (std::isinf(until)) {
    event.expires_at(Clock::time_point::max());
  } else {
    event.expires_after(
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::max(0.0, until - now()))));
  }
  error_code ignored;
  co_await event.async_wait(net::redirect_error(net::use_awaitable, ignored));
}

net::awaitable<Outcome> LoadClient::Impl::attempt(LoadLink& link, const std::string& text,
                                                  const PieceBody::value_type& body) {
  Outcome outcome;
  if (!link.used) {
    std::string why;
    const bool open = co_await link.open(why);
    if (!open) {
      outcome.failure = "connection";
      outcome.sentence = fmt::format("cannot connect to {} ({})", address.url(), why);
      co_return outcome;
    }
  }
  co_await link.write(text);  // at an error there may still be an answer to read: a refusal
  Parser parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(uint64_t{1} << 50);  // boost::none refuses some answers in Boost 1.74
  parser.eager(true);
  parser.get().body() = body;
  error_code error;
  const bool whole = co_await read_answer(link, parser, outcome.any_byte, error);
  if (whole) {
    outcome.status = static_cast<int>(parser.get().result_int());
    link.used = parser.keep_alive() && link.in.size() == 0;
  } else if (error.category() == http::make_error_code(http::error::need_more).category()) {
    outcome.failure = "bad answer";
    outcome.sentence = "the answer is not valid HTTP: " + error.message();
  } else if (parser.is_header_done()) {
    outcome.failure = "broken stream";
    outcome.sentence = "the connection broke off in the middle of the answer";
  } else {
    outcome.failure = "connection";
    outcome.sentence = "the connection was closed without an answer";
  }
  co_return outcome;
}

// On a connection that is still open, if there is one; the server may have closed it meanwhile, then on another.
net::awaitable<Outcome> LoadClient::Impl::ask(const std::string& text, const PieceBody::value_type& body) {
  Outcome outcome;
  Exchange exchange(active);
  exchange.deadline = now_seconds() + timeout;
  exchange.stopped = interrupted;
  for (bool again = !interrupted; again;) {
    std::unique_ptr<LoadLink> link;
    if (idle.empty()) {
      link = std::make_unique<LoadLink>(io, endpoint);
    } else {
      link = std::move(idle.back());
      idle.pop_back();
    }
    const bool reused = link->used;
    exchange.link = link.get();
    outcome = co_await attempt(*link, text, body);
    exchange.link = nullptr;
    again = reused && outcome.status == 0 && !outcome.any_byte && !exchange.stopped && !exchange.timed_out;
    if (outcome.status != 0 && link->used) idle.push_back(std::move(link));
  }
  if (outcome.status == 0 && exchange.stopped) {
    outcome.failure = kStopped;
  } else if (outcome.status == 0 && exchange.timed_out) {
    outcome.failure = "timeout";
    outcome.sentence = fmt::format("no whole answer within {:g} seconds (--timeout)", timeout);
  }
  co_return outcome;
}

net::awaitable<void> LoadClient::Impl::serve_one(const LoadRun& run, size_t index) {
  LoadResult& result = results[index];
  const std::string text = message("POST", run.chat ? "/v1/chat/completions" : "/v1/completions", run.body(index));
  LoadStream stream(run.chat, run.streamed, result);
  std::string error_body;
  result.start = now();
  const PieceBody::value_type take = [&](int status, std::string_view piece) {
    if (status == 200) {
      stream.feed(piece, static_cast<uint32_t>((now() - result.start) * 1e6));
    } else {
      error_body += piece.substr(0, kMaxErrorBody - std::min(kMaxErrorBody, error_body.size()));
    }
  };
  const Outcome outcome = co_await ask(text, take);
  result.end = now();
  if (outcome.status == 200) {
    stream.finish();
  } else if (outcome.failure == kStopped) {
    result.state = LoadResult::kStopped;
  } else if (result.state != LoadResult::kFailed) {  // else the stream told an error before it broke off
    result.state = LoadResult::kFailed;
    result.failure = outcome.status == 0 ? outcome.failure : fmt::format("HTTP {}", outcome.status);
    result.sentence = outcome.status == 0 ? outcome.sentence : error_sentence(error_body);
  }
}

net::awaitable<void> LoadClient::Impl::dispatch(const LoadRun& run) {
  for (size_t i = 0; i < run.plan.size(); ++i) {
    while (now() < run.plan[i].arrival && !interrupted) co_await pause(run.plan[i].arrival);
    while (run.concurrency > 0 && in_flight >= static_cast<size_t>(run.concurrency) && !interrupted) {
      co_await pause(std::numeric_limits<double>::infinity());
    }
    if (interrupted) break;
    ++in_flight;
    net::co_spawn(io, serve_one(run, i), [this](const std::exception_ptr& error) {
      if (error) thrown = error;
      --in_flight;
      ++done;
      event.cancel();
    });
  }
  while (in_flight > 0) co_await pause(std::numeric_limits<double>::infinity());
}

// Runs the loop until the coroutine that `work` makes has ended.
template <typename Work>
void LoadClient::Impl::work_off(Work work) {
  io.restart();
  tick();
  net::co_spawn(io, work(), [this](const std::exception_ptr& error) {
    if (error) thrown = error;
    io.stop();
  });
  io.run();
  ticker.cancel();
  if (thrown) std::rethrow_exception(std::exchange(thrown, nullptr));
}

LoadClient::LoadClient(LoadAddress address, const std::string& api_key, double timeout)
    : impl_(std::make_unique<Impl>(std::move(address), api_key, timeout)) {}

LoadClient::~LoadClient() = default;

LoadAnswer LoadClient::get(const std::string& path) {
  LoadAnswer answer;
  impl_->work_off([&]() -> net::awaitable<void> {
    const std::string text = impl_->message("GET", path, "");
    const PieceBody::value_type take = [&](int, std::string_view piece) {
      answer.body += piece.substr(0, kMaxAnswer - std::min(kMaxAnswer, answer.body.size()));
    };
    const Outcome outcome = co_await impl_->ask(text, take);
    if (outcome.failure == kStopped) fail(ErrorKind::kCancelled, "stopped before anything was measured");
    if (outcome.status == 0) fail(ErrorKind::kNetwork, "{}", outcome.sentence);
    answer.status = outcome.status;
  });
  return answer;
}

std::vector<LoadResult> LoadClient::run(const LoadRun& run) {
  impl_->results.assign(run.plan.size(), {});
  for (size_t i = 0; i < run.plan.size(); ++i) {
    impl_->results[i].planned = run.plan[i].arrival;
    impl_->results[i].wanted_tokens = run.plan[i].output_tokens;
  }
  impl_->progress = run.progress;
  impl_->done = 0;
  impl_->origin = now_seconds();
  impl_->work_off([&]() -> net::awaitable<void> { co_await impl_->dispatch(run); });
  return std::move(impl_->results);
}

bool LoadClient::interrupted() const { return impl_->interrupted; }

}  // namespace baize::apps
