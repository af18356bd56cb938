#include "serve/generation.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

namespace baize::serve {

namespace {

class Generation final : public Task {
 public:
  Generation(const ServedModel& model, ApiParams params, const GenerationCall& call)
      : model_(model), params_(std::move(params)), call_(call) {}

  void begin(const Wake& wake);
  void advance(Reply& reply) override;

 private:
  std::vector<TokenPrompt> make_prompts() const;
  void check_prompt(const std::vector<Token>& ids) const;
  GenRequest make_request(const std::vector<Token>& ids, uint64_t seed) const;
  int64_t answers_each() const { return std::max<int64_t>(1, params_.best_of.value_or(params_.n)); }
  void move_on(Reply& reply);
  void drain(Answer& answer, Reply& reply);
  void take(Answer& answer, Tokens tokens, Reply& reply);
  void give_prompt(Answer& answer, const PromptLogprobs* logprobs, Reply& reply);
  void give(Answer& answer, Delta delta, Reply& reply);
  void end_answer(Answer& answer, const Done& done, Reply& reply);
  void end_reply(Reply& reply);
  void fail_reply(const ApiError& error, Reply& reply);
  void start_stream(Reply& reply);
  std::vector<Answer*> chosen();
  TotalUsage usage() const;

  const ServedModel& model_;
  const ApiParams params_;
  const GenerationCall call_;
  std::vector<std::vector<Token>> prompts_;
  std::vector<Answer> answers_;
  std::unique_ptr<AnswerFormat> format_;
  size_t ended_ = 0;
};

std::vector<TokenPrompt> Generation::make_prompts() const {
  std::vector<TokenPrompt> prompts;
  if (call_.dialect == kChat) {
    prompts.push_back(chat_prompt(model_, params_));
  } else {
    for (const Prompt& prompt : params_.prompts) prompts.push_back(text_prompt(model_, prompt, true));
  }
  return prompts;
}

void Generation::check_prompt(const std::vector<Token>& ids) const {
  const char* param = call_.dialect == kChat ? "messages" : "prompt";
  if (ids.empty()) bad_request(param, "the prompt is empty: give at least one token");
  const int64_t context = model_.engine->context();
  if (static_cast<int64_t>(ids.size()) <= context) return;
  throw ApiError(
      400, "context_length_exceeded", param,
      fmt::format("the prompt has {} tokens, but the model's context holds {}: shorten it", ids.size(), context));
}

GenRequest Generation::make_request(const std::vector<Token>& ids, uint64_t seed) const {
  GenRequest request;
  request.prompt = ids;
  request.sampling = model_.sampling;
  for (const auto& [field, value] : params_.sampling) field->set(request.sampling, value);
  request.sampling.seed = seed;
  request.sampling.logit_bias = params_.logit_bias;
  request.max_tokens = params_.max_tokens;
  if (params_.max_tokens == 0) request.max_tokens = 1;  // only the prompt is wanted; the token is dropped
  request.min_tokens = params_.min_tokens;
  if (!params_.ignore_eos) {
    for (const Token end : model_.text->end_tokens) {
      if (end < model_.engine->vocab()) request.stop_ids.push_back(end);
    }
  }
  if (params_.logprobs) request.logprobs = static_cast<int32_t>(params_.top_logprobs);
  if (answers_each() > params_.n) request.logprobs = std::max(request.logprobs, 0);  // they tell which answers are best
  request.prompt_logprobs = params_.echo && params_.logprobs;
  request.priority = static_cast<int32_t>(params_.priority);
  return request;
}

void Generation::begin(const Wake& wake) {
  std::vector<TokenPrompt> prompts = make_prompts();
  for (const TokenPrompt& prompt : prompts) check_prompt(prompt.ids);
  if (params_.min_tokens > model_.engine->context()) {
    bad_request("min_tokens", "'min_tokens' ({}) must be at most the model's context, {}", params_.min_tokens,
                model_.engine->context());
  }
  for (const LogitBias& bias : params_.logit_bias) {
    if (bias.token < model_.engine->vocab()) continue;
    bad_request("logit_bias", "'logit_bias' names token {}, but the vocabulary has tokens 0 to {}", bias.token,
                model_.engine->vocab() - 1);
  }
  const uint64_t seed = params_.seed.has_value() ? *params_.seed : random_seed();
  answers_.reserve(prompts.size() * static_cast<size_t>(answers_each()));
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (int64_t k = 0; k < answers_each(); ++k) {
      RequestHandle handle = model_.engine->submit(make_request(prompts[i].ids, seed + static_cast<uint64_t>(k)), wake);
      AnswerText text(*model_.text, prompts[i].start, params_.stop, call_.dialect == kCompletion);
      Answer answer(std::move(handle), std::move(text));
      answer.index = static_cast<int64_t>(i) * params_.n + k;
      answer.prompt = i;
      answers_.push_back(std::move(answer));
    }
  }
  FormatInfo info;
  info.model = model_.name;
  info.tokenizer = &model_.text->tokenizer;
  info.include_usage = params_.include_usage;
  info.logprobs = params_.logprobs;
  info.return_token_ids = params_.return_token_ids;
  info.thinks = model_.thinks;
  for (TokenPrompt& prompt : prompts) {
    prompts_.push_back(prompt.ids);
    info.prompts.push_back(std::move(prompt.ids));
  }
  format_ = call_.format(std::move(info));
}

void Generation::advance(Reply& reply) {
  try {
    move_on(reply);
  } catch (...) {
    fail_reply(current_api_error(), reply);
  }
}

void Generation::move_on(Reply& reply) {
  for (Answer& answer : answers_) {
    if (!answer.done.has_value()) drain(answer, reply);
    if (reply.done) return;
  }
  if (ended_ == answers_.size()) end_reply(reply);
}

void Generation::drain(Answer& answer, Reply& reply) {
  while (std::optional<Event> event = answer.handle.poll()) {
    if (const Error* error = std::get_if<Error>(&*event)) return fail_reply(to_api_error(*error), reply);
    if (Tokens* tokens = std::get_if<Tokens>(&*event)) {
      give_prompt(answer, nullptr, reply);
      take(answer, std::move(*tokens), reply);
    } else if (const auto* prompt = std::get_if<PromptLogprobs>(&*event)) {
      give_prompt(answer, prompt, reply);
    } else {
      return end_answer(answer, std::get<Done>(*event), reply);
    }
  }
}

void Generation::start_stream(Reply& reply) {
  if (reply.streamed) return;
  reply.streamed = true;
  reply.content_type = "text/event-stream; charset=utf-8";
  reply.headers.push_back({"Cache-Control", "no-cache"});
  reply.headers.push_back({"X-Accel-Buffering", "no"});
  for (const Answer& answer : answers_) format_->begin(reply.body, answer);
}

// For echo: the prompt is the first piece of the answer.
void Generation::give_prompt(Answer& answer, const PromptLogprobs* logprobs, Reply& reply) {
  if (!params_.echo || answer.prompt_given) return;
  answer.prompt_given = true;
  Delta delta;
  const Prompt& prompt = params_.prompts[answer.prompt];
  const std::vector<Token>& ids = prompts_[answer.prompt];
  delta.content = prompt.is_ids ? model_.text->tokenizer.decode(ids) : prompt.text;
  if (params_.logprobs) {
    delta.ids = ids;
    delta.logprobs.push_back({.logprob = std::nanf(""), .top = {}});  // nothing stands before the first token
    if (logprobs != nullptr) {
      delta.logprobs.insert(delta.logprobs.end(), logprobs->tokens.begin(), logprobs->tokens.end());
    }
    delta.logprobs.resize(ids.size(), {.logprob = std::nanf(""), .top = {}});
  }
  give(answer, std::move(delta), reply);
}

void Generation::take(Answer& answer, Tokens tokens, Reply& reply) {
  if (answer.text.stopped() || params_.max_tokens == 0) return;
  const double now = now_seconds();
  if (answer.last_token == 0) {
    model_.metrics->first_token.observe(now - call_.received);
  } else {
    model_.metrics->between_tokens.observe(now - answer.last_token);
  }
  answer.last_token = now;
  for (size_t i = 0; i < tokens.ids.size() && !answer.text.stopped(); ++i) {
    Delta delta;
    answer.reasoning_tokens += answer.text.thinking() ? 1 : 0;
    answer.text.push(tokens.ids[i], delta);
    ++answer.new_tokens;
    const bool has_logprobs = i < tokens.logprobs.size();
    if (has_logprobs) answer.logprob_sum += static_cast<double>(tokens.logprobs[i].logprob);
    if (params_.logprobs || params_.return_token_ids) delta.ids.push_back(tokens.ids[i]);
    if (params_.logprobs && has_logprobs) delta.logprobs.push_back(std::move(tokens.logprobs[i]));
    if (!delta.empty()) give(answer, std::move(delta), reply);
  }
  if (answer.text.stopped()) answer.handle.cancel();
}

void Generation::give(Answer& answer, Delta delta, Reply& reply) {
  if (!params_.stream) return answer.whole.append(std::move(delta));
  start_stream(reply);
  format_->delta(reply.body, answer, delta);
}

void Generation::end_answer(Answer& answer, const Done& done, Reply& reply) {
  if (done.reason == FinishReason::kCancelled && !answer.text.stopped()) {
    return fail_reply({503, "cancelled", "", "the server is shutting down: ask again, or another one"}, reply);
  }
  give_prompt(answer, nullptr, reply);
  Delta rest;
  answer.text.finish(rest);
  if (!rest.empty()) give(answer, std::move(rest), reply);
  const bool stopped = answer.text.stopped() || done.reason == FinishReason::kStop;
  answer.finish_reason = params_.max_tokens == 0 || !stopped ? "length" : "stop";
  answer.done = done;
  ++ended_;
  ModelMetrics& metrics = *model_.metrics;
  metrics.queue.observe(done.usage.queued_seconds);
  metrics.request.observe(now_seconds() - call_.received);
  metrics.prompt_tokens += done.usage.prompt_tokens;
  metrics.cached_tokens += done.usage.cached_tokens;
  metrics.new_tokens += answer.new_tokens;
  metrics.finished.add(answer.finish_reason);
  if (params_.stream) {
    start_stream(reply);
    format_->finish(reply.body, answer);
  }
}

TotalUsage Generation::usage() const {
  TotalUsage usage;
  for (size_t i = 0; i < answers_.size(); ++i) {
    const Answer& answer = answers_[i];
    usage.new_tokens += answer.new_tokens;
    usage.reasoning_tokens += answer.reasoning_tokens;
    if (i % static_cast<size_t>(answers_each()) != 0) continue;  // a prompt counts once
    usage.prompt_tokens += answer.done->usage.prompt_tokens;
    usage.cached_tokens += answer.done->usage.cached_tokens;
  }
  return usage;
}

// The n likeliest answers of each prompt, by the mean log probability of their tokens.
std::vector<Answer*> Generation::chosen() {
  const auto each = static_cast<size_t>(answers_each());
  const auto score = [](const Answer* a) {
    return a->new_tokens == 0 ? 0.0 : a->logprob_sum / static_cast<double>(a->new_tokens);
  };
  std::vector<Answer*> all;
  for (size_t first = 0; first < answers_.size(); first += each) {
    std::vector<Answer*> group;
    for (size_t k = 0; k < each; ++k) group.push_back(&answers_[first + k]);
    if (answers_each() > params_.n) {
      std::sort(group.begin(), group.end(), [&](const Answer* a, const Answer* b) {
        return std::pair(-score(a), a->index) < std::pair(-score(b), b->index);
      });
    }
    for (size_t k = 0; k < static_cast<size_t>(params_.n); ++k) {
      group[k]->index = static_cast<int64_t>(all.size());
      all.push_back(group[k]);
    }
  }
  return all;
}

void Generation::end_reply(Reply& reply) {
  if (params_.stream) {
    format_->end(reply.body, usage());
  } else {
    const std::vector<Answer*> answers = chosen();
    format_->whole(reply.body, answers, usage());
  }
  reply.done = true;
}

void Generation::fail_reply(const ApiError& error, Reply& reply) {
  for (Answer& answer : answers_) answer.handle.cancel();  // now: a slow client may take its time to read the error
  model_.metrics->finished.add("error");
  call_.errors.add(error.code);
  if (error.status >= 500) log::error("a request failed: {}", error.what());
  if (!reply.streamed) return write_error(error, reply);
  const size_t whole = reply.body.rfind("\n\n");  // of an event that was being written nothing stays
  reply.body.resize(whole == std::string::npos ? 0 : whole + 2);
  format_->fail(reply.body, error);
  reply.done = true;
}

}  // namespace

std::string render_chat(const ServedModel& model, const ApiParams& params) {
  ChatInput input;
  input.messages = params.messages;
  input.variables = params.template_kwargs;
  input.add_generation_prompt = params.add_generation_prompt;
  return model.text->chat.render(input);
}

TokenPrompt chat_prompt(const ServedModel& model, const ApiParams& params) {
  const std::string rendered = render_chat(model, params);
  TokenPrompt prompt{model.text->tokenizer.encode(rendered, false, SpecialText::kParse)};
  if (model.thinks) prompt.start = ReasoningSplitter::start_after(rendered);
  return prompt;
}

TokenPrompt text_prompt(const ServedModel& model, const Prompt& prompt, bool add_special) {
  if (prompt.is_ids) return {prompt.ids};
  return {model.text->tokenizer.encode(prompt.text, add_special, SpecialText::kParse)};
}

std::unique_ptr<Task> begin_generation(const ServedModel& model, ApiParams params, const GenerationCall& call,
                                       const Wake& wake) {
  auto task = std::make_unique<Generation>(model, std::move(params), call);
  task->begin(wake);
  return task;
}

}  // namespace baize::serve
