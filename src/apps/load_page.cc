#include "apps/load_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace baize::apps {

namespace {

constexpr double kWidth = 520, kHeight = 260;  // of a plot, with
constexpr double kLeft = 56, kRight = 12, kTop = 12, kBottom = 40;
constexpr size_t kMostDots = 2000, kSteps = 200;
constexpr int kBins = 120;

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --line: #1668c7; --other: #c2560c; --grid: #8884; }
@media (prefers-color-scheme: dark) { :root { --line: #6db3ff; --other: #ffab6b; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1120px; margin: 2em auto; padding: 0 1em; }
pre { overflow-x: auto; padding: 1em; border: 1px solid var(--grid); border-radius: 6px; }
.plots { display: flex; flex-wrap: wrap; gap: 1em; } figure { margin: 0; flex: 1 1 460px; }
figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { font-size: 12px; fill: currentColor; } .grid { stroke: var(--grid); }
.line { fill: none; stroke: var(--line); stroke-width: 1.8; }
.dots { stroke-width: 4.5; stroke-linecap: round; stroke-opacity: .6; }
.first { stroke: var(--line); } .whole { stroke: var(--other); }
b.a { color: var(--line); } b.b { color: var(--other); }
)";

struct Point {
  double x, y;
};

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// 1, 2 or 5 times a power of ten, so that there are about five steps up to `most`.
double tick_step(double most) {
  const double raw = most / 5, power = std::pow(10, std::floor(std::log10(raw)));
  const double factor = raw / power;
  return power * (factor <= 1 ? 1 : factor <= 2 ? 2 : factor <= 5 ? 5 : 10);
}

// Axes from 0 in both directions, and whatever is drawn between them.
class Plot {
 public:
  Plot(std::string title, const char* x_name, Point most) : title_(std::move(title)), most_(most) {
    if (!(most_.x > 0)) most_.x = 1;
    if (!(most_.y > 0)) most_.y = 1;
    const double step_x = tick_step(most_.x), step_y = tick_step(most_.y);
    for (int i = 0; i * step_x <= most_.x * 1.0001; ++i) tick(i * step_x, 0, true);
    for (int i = 0; i * step_y <= most_.y * 1.0001; ++i) tick(0, i * step_y, false);
    body_ += fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"end\">{}</text>\n", kWidth - kRight,
                         kHeight - 6, x_name);
  }

  void line(const std::vector<Point>& points) {
    if (points.empty()) return;
    body_ += "<polyline class=\"line\" points=\"";
    for (const Point& point : points) body_ += fmt::format("{:.1f},{:.1f} ", x(point.x), y(point.y));
    body_ += "\"/>\n";
  }

  // Lines of no length with round ends: much shorter to write than circles.
  void dots(const char* name, const std::vector<Point>& points) {
    body_ += fmt::format("<path class=\"dots {}\" d=\"", name);
    for (const Point& point : points) body_ += fmt::format("M{:.1f} {:.1f}h0", x(point.x), y(point.y));
    body_ += "\"/>\n";
  }

  std::string figure() const {
    return fmt::format(
        "<figure><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {:.0f} {:.0f}\" "
        "role=\"presentation\">\n{}</svg></figure>\n",
        title_, kWidth, kHeight, body_);
  }

 private:
  double x(double value) const { return kLeft + value / most_.x * (kWidth - kLeft - kRight); }
  double y(double value) const { return kHeight - kBottom - value / most_.y * (kHeight - kTop - kBottom); }
  void tick(double at_x, double at_y, bool vertical) {
    body_ += fmt::format("<line class=\"grid\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>", x(at_x),
                         y(at_y), vertical ? x(at_x) : kWidth - kRight, vertical ? kTop : y(at_y));
    body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{:g}</text>\n",
                         vertical ? x(at_x) : kLeft - 6, vertical ? kHeight - kBottom + 16 : y(at_y) + 4,
                         vertical ? "middle" : "end", vertical ? at_x : at_y);
  }

  std::string title_, body_;
  Point most_;
};

// Which share of the values (milliseconds) is at most so much.
std::string distribution(const char* title, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  Plot plot(title, "milliseconds", {values.empty() ? 1 : values.back(), 100});
  std::vector<Point> points;
  const size_t steps = std::min(kSteps, values.size());
  for (size_t i = 0; i < steps; ++i) {
    const size_t at = steps == 1 ? 0 : i * (values.size() - 1) / (steps - 1);
    if (i == 0) points.push_back({values.front(), 0});
    points.push_back({values[at], 100 * static_cast<double>(at + 1) / static_cast<double>(values.size())});
  }
  plot.line(points);
  return plot.figure();
}

std::string throughput(const LoadSummary& summary, const std::vector<LoadResult>& results) {
  double end = 0;
  for (const LoadResult& result : results) end = std::max(end, result.end);
  const double width = end > 0 ? end / kBins : 1;
  std::vector<double> counts(kBins, 0.0);
  for (const LoadResult& result : results) {
    if (result.state == LoadResult::kNotSent || result.events.empty()) continue;
    // An event may carry several tokens, and then stands for as many.
    const double tokens = static_cast<double>(result.tokens()) / static_cast<double>(result.events.size());
    for (const uint32_t event : result.events) {
      const auto bin = static_cast<size_t>((result.start + event * 1e-6) / width);
      counts[std::min<size_t>(bin, kBins - 1)] += tokens / width;
    }
  }
  std::vector<Point> points;
  for (size_t i = 0; i < counts.size(); ++i) points.push_back({(static_cast<double>(i) + 0.5) * width, counts[i]});
  const double most = *std::max_element(counts.begin(), counts.end());
  Plot plot(fmt::format("Output tokens a second (on average {:.0f})", summary.per_second(summary.output_tokens)),
            "seconds", {end, most});
  plot.line(points);
  return plot.figure();
}

std::string timeline(const LoadSetup& setup, const std::vector<LoadResult>& results) {
  std::vector<const LoadResult*> shown;
  for (const LoadResult& result : results) {
    if (result.state == LoadResult::kOk) shown.push_back(&result);
  }
  const size_t stride = std::max<size_t>(1, (shown.size() + kMostDots - 1) / kMostDots);
  std::vector<Point> first, whole;
  Point most{0, 0};
  for (size_t i = 0; i < shown.size(); i += stride) {
    const LoadResult& result = *shown[i];
    if (setup.streamed) first.push_back({result.start, 1e3 * result.first()});
    whole.push_back({result.start, 1e3 * result.seconds()});
    most = {std::max(most.x, result.start), std::max(most.y, 1e3 * result.seconds())};
  }
  Plot plot("Latency by the time of sending, ms: <b class=\"a\">TTFT</b>, <b class=\"b\">E2E</b>", "seconds", most);
  plot.dots("whole", whole);
  plot.dots("first", first);
  return plot.figure();
}

}  // namespace

std::string load_page(const LoadSetup& setup, const LoadSummary& summary, const std::vector<LoadResult>& results) {
  std::vector<double> ttft, e2e;
  for (const LoadResult& result : results) {
    if (result.state != LoadResult::kOk) continue;
    ttft.push_back(1e3 * result.first());
    e2e.push_back(1e3 * result.seconds());
  }
  const std::string title = "Load test of " + escape(setup.model);
  std::string plots;
  if (!e2e.empty() && setup.streamed) plots += distribution("Time to the first token, % of requests", ttft);
  if (!e2e.empty()) plots += distribution("Whole answer, % of requests", e2e);
  if (!e2e.empty() && setup.streamed) plots += throughput(summary, results);
  if (!e2e.empty()) plots += timeline(setup, results);
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>{0}</title>\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<style>{1}</style></head>\n"
      "<body><h1>{0}</h1>\n<pre>{2}</pre>\n<div class=\"plots\">\n{3}</div></body></html>\n",
      title, kStyle, escape(load_table(setup, summary)), plots);
}

}  // namespace baize::apps
