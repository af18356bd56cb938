#include "apps/load_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <random>

namespace baize::apps {

namespace {

// Lengths of ShareGPT_V3_unfiltered_cleaned_split as serving benchmarks draw them (the first question and answer of a
// conversation, prompts and answers from 4 to 1,024 tokens): a run of 1,000 requests published with vLLM's `bench
// serve` (vllm-project/vllm, pull request 18566, Llama 3 tokenizer) has 229.7 input and 203.1 output tokens a request.
// Log-normal with these medians, cut to that range, has the same means. The spreads are our choice: many short
// questions with a long tail, answers less so.
constexpr int64_t kShortest = 4, kLongest = 1024;
constexpr double kInputMedian = 171.0, kInputSigma = 1.4;
constexpr double kOutputMedian = 144.5, kOutputSigma = 1.0;

// Frequent English words: nearly every vocabulary has each, with the space before it, as one token.
constexpr std::array<std::string_view, 64> kWords = {
    "the",   "of",   "and",  "to",   "in",  "is",   "that",  "for",   "it",    "was",   "with",  "as",   "his",
    "on",    "be",   "at",   "by",   "had", "not",  "are",   "but",   "from",  "or",    "have",  "an",   "they",
    "which", "one",  "you",  "were", "all", "her",  "she",   "there", "would", "their", "we",    "him",  "been",
    "has",   "when", "who",  "will", "no",  "more", "if",    "out",   "so",    "up",    "said",  "what", "its",
    "about", "than", "into", "them", "can", "only", "other", "time",  "new",   "some",  "could", "these"};

// The distributions of <random> differ from one C++ library to the next; its engines do not.
class Draw {
 public:
  explicit Draw(uint64_t seed) : engine_(seed) {}
  // In (0, 1].
  double uniform() { return (static_cast<double>(engine_() >> 11) + 1) * 0x1p-53; }
  double exponential(double rate) { return -std::log(uniform()) / rate; }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform()); }
  int64_t length(double median, double sigma) {
    while (true) {
      const double value = median * std::exp(sigma * normal());
      if (value >= kShortest && value <= kLongest) return std::llround(value);
    }
  }
  std::string_view word() { return kWords[engine_() % kWords.size()]; }

 private:
  std::mt19937_64 engine_;
};

// Numbers apart for seeds and indices that lie together (SplitMix64, Steele and others 2014).
uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

void append_words(std::string& text, Draw& draw, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (!text.empty()) text += ' ';
    text += draw.word();
  }
}

}  // namespace

std::vector<PlannedRequest> plan_load(const LoadShape& shape, uint64_t seed) {
  // Two sources: another rate changes no length.
  Draw lengths(mix(seed)), arrivals(mix(seed ^ 0xa5a5a5a5a5a5a5a5));
  std::vector<PlannedRequest> plan(static_cast<size_t>(shape.requests));
  double now = 0;
  for (PlannedRequest& request : plan) {
    request.arrival = now;
    if (shape.rate > 0) now += arrivals.exponential(shape.rate);
    request.input_tokens = shape.sharegpt ? lengths.length(kInputMedian, kInputSigma) : shape.input_tokens;
    request.output_tokens = shape.sharegpt ? lengths.length(kOutputMedian, kOutputSigma) : shape.output_tokens;
  }
  return plan;
}

int64_t WordRate::words_for(int64_t tokens) const {
  return std::max<int64_t>(1, std::llround((static_cast<double>(tokens) - base) / per_word));
}

WordRate fit_word_rate(int64_t few_words, int64_t few_tokens, int64_t many_words, int64_t many_tokens) {
  const double per_word =
      static_cast<double>(many_tokens - few_tokens) / static_cast<double>(std::max<int64_t>(1, many_words - few_words));
  if (few_tokens <= 0 || per_word < 0.1) return {};
  return {std::max(0.0, static_cast<double>(few_tokens) - per_word * static_cast<double>(few_words)), per_word};
}

std::string every_word() {
  std::string text;
  for (const std::string_view word : kWords) {
    if (!text.empty()) text += ' ';
    text += word;
  }
  return text;
}

int64_t word_count() { return kWords.size(); }

Prompts::Prompts(uint64_t seed, int64_t shared_words) : seed_(mix(seed)), shared_words_(shared_words) {
  Draw draw(seed_);
  append_words(shared_, draw, shared_words);
}

std::string Prompts::make(uint64_t index, int64_t words) const {
  Draw draw(mix(seed_ + index + 1));
  std::string text;
  text.reserve(static_cast<size_t>(std::max(words, shared_words_) + 1) * 5);
  text = shared_;
  append_words(text, draw, std::max<int64_t>(1, words - shared_words_));
  return text;
}

}  // namespace baize::apps
