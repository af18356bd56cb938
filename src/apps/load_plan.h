// What a load test asks of a server, made from a seed: how long each request is, when it comes and what it says.
// Pure: no clock, no network; the same seed gives the same plan on every machine. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace baize::apps {

struct LoadShape {
  int64_t requests = 100;
  bool sharegpt = false;  // lengths as in ShareGPT's conversations, instead of:
  int64_t input_tokens = 256, output_tokens = 128;
  double rate = 0;  // requests a second that come on average, by a Poisson process; 0: all wait at the start
};

struct PlannedRequest {
  double arrival = 0;  // seconds after the start
  int64_t input_tokens = 0, output_tokens = 0;
};

std::vector<PlannedRequest> plan_load(const LoadShape& shape, uint64_t seed);

/// How a server's tokenizer counts our words, in one prompt or chat message: tokens = base + per_word * words.
struct WordRate {
  double base = 0, per_word = 1;
  /// Words of a prompt of about so many tokens; at least 1.
  int64_t words_for(int64_t tokens) const;
};

/// From the tokens that two texts were counted to have; {0, 1} where they make no sense.
WordRate fit_word_rate(int64_t few_words, int64_t few_tokens, int64_t many_words, int64_t many_tokens);

/// Each of the words that prompts are made of, once: a text to measure the WordRate by.
std::string every_word();
int64_t word_count();

/// Texts of random common words. Any two begin differently (all but surely), unless they share `shared_words` first.
class Prompts {
 public:
  Prompts(uint64_t seed, int64_t shared_words);
  /// The prompt of request `index`, of so many words, the shared ones included (at least those, and one more).
  std::string make(uint64_t index, int64_t words) const;

 private:
  uint64_t seed_;
  int64_t shared_words_;
  std::string shared_;
};

}  // namespace baize::apps
