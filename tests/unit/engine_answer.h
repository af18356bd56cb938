// What tests of the engine share: answers collected from handles, and plain requests.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "engine/request.h"

namespace baize::test {

struct Answer {
  std::vector<Token> ids;
  std::vector<TokenLogprobs> logprobs;
  std::optional<PromptLogprobs> prompt_logprobs;
  std::optional<Done> done;
  std::optional<Error> error;
};

inline Answer collect(RequestHandle& handle) {
  Answer answer;
  while (true) {
    Event event = handle.next();
    if (const Tokens* tokens = std::get_if<Tokens>(&event)) {
      answer.ids.insert(answer.ids.end(), tokens->ids.begin(), tokens->ids.end());
      answer.logprobs.insert(answer.logprobs.end(), tokens->logprobs.begin(), tokens->logprobs.end());
    } else if (const Done* done = std::get_if<Done>(&event)) {
      answer.done = *done;
      return answer;
    } else if (PromptLogprobs* prompt = std::get_if<PromptLogprobs>(&event)) {
      EXPECT_TRUE(answer.ids.empty() && !answer.prompt_logprobs);
      answer.prompt_logprobs = std::move(*prompt);
    } else {
      answer.error = std::get<Error>(event);
      return answer;
    }
  }
}

inline GenRequest greedy(std::vector<Token> prompt, int64_t max_tokens = 12) {
  GenRequest request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.max_tokens = max_tokens;
  return request;
}

inline std::vector<Token> joined(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace baize::test
