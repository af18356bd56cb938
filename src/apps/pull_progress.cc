#include "apps/pull_progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/clock.h"
#include "base/text.h"
#include "store/files.h"

namespace baize::apps {

namespace {
constexpr double kRedrawSeconds = 0.1;
constexpr double kLineSeconds = 10;

size_t terminal_width() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string as_time(double seconds) {
  const auto whole = static_cast<int64_t>(std::lround(std::clamp(seconds, 0.0, 360'000.0)));
  if (whole >= 3600) return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
  if (whole >= 60) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}s", whole);
}
}  // namespace

PullProgress::PullProgress(const volatile std::sig_atomic_t& stop)
    : stop_(stop), terminal_(::isatty(STDERR_FILENO) == 1) {}

void PullProgress::begin(std::string_view file, int64_t bytes, int index, int count) {
  label_ = store::one_line(count > 1 ? fmt::format("[{}/{}] {}", index, count, file) : std::string(file));
  bytes_ = bytes;
  done_ = 0;
  first_done_ = -1;
  began_ = now_seconds();
  printed_ = began_;
  if (!terminal_) print_line(bytes < 0 ? label_ : fmt::format("{}: {}", label_, human_bytes(bytes)));
}

void PullProgress::update(int64_t done, int64_t bytes) {
  if (first_done_ < 0 || done < done_) first_done_ = done;
  done_ = done;
  if (bytes >= 0) bytes_ = bytes;
  const double now = now_seconds();
  if (now - printed_ < (terminal_ ? kRedrawSeconds : kLineSeconds)) return;
  printed_ = now;
  if (terminal_) {
    print_bar(now);
  } else {
    print_line(bar_line(now));
  }
}

void PullProgress::end() {
  const double now = now_seconds();
  const std::string line = fmt::format("{}: {}, done in {}", label_, human_bytes(done_), as_time(now - began_));
  clear();
  print_line(line);
}

void PullProgress::note(std::string_view line) {
  clear();
  print_line(store::one_line(line, 500));
}

bool PullProgress::cancelled() { return stop_ != 0; }

void PullProgress::clear() {
  if (bar_shown_) std::fputs("\r\x1b[K", stderr);
  bar_shown_ = false;
}

double PullProgress::speed(double now) const {
  return now > began_ ? static_cast<double>(done_ - first_done_) / (now - began_) : 0;
}

// "model.gguf   45%  44.3 MB of 98.4 MB, 12.1 MB/s, 5s left"
std::string PullProgress::bar_line(double now) const {
  const double rate = speed(now);
  const std::string pace = rate > 0 ? fmt::format(", {}/s", human_bytes(static_cast<int64_t>(rate))) : "";
  if (bytes_ <= 0) return fmt::format("{}  {}{}", label_, human_bytes(done_), pace);
  const std::string left =
      rate > 0 ? fmt::format(", {} left", as_time(static_cast<double>(bytes_ - done_) / rate)) : "";
  return fmt::format("{}  {:3}%  {} of {}{}{}", label_, done_ * 100 / bytes_, human_bytes(done_), human_bytes(bytes_),
                     pace, left);
}

void PullProgress::print_bar(double now) {
  constexpr size_t kBar = 20;
  std::string line = bar_line(now);
  const size_t width = terminal_width();
  if (bytes_ > 0 && line.size() + kBar + 4 < width) {
    const auto filled = static_cast<size_t>(std::clamp<int64_t>(done_ * int64_t{kBar} / bytes_, 0, kBar));
    line.insert(label_.size(), fmt::format("  [{:<{}}]", std::string(filled, '#'), kBar));
  }
  if (line.size() >= width) line.resize(width - 1);
  std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
  std::fflush(stderr);
  bar_shown_ = true;
}

void PullProgress::print_line(std::string_view text) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

}  // namespace baize::apps
