// Request parameters: what the table accepts, what each refusal names.
#include "serve/params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "serve/api_error.h"
#include "serve/openapi.h"

namespace baize::serve {
namespace {

using testing::HasSubstr;

ApiParams chat(const std::string& more) {
  return parse_params("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]" + (more.empty() ? "" : "," + more) + "}",
                      kChat);
}

ApiParams completion(const std::string& more) {
  return parse_params("{\"prompt\":\"x\"" + (more.empty() ? "" : "," + more) + "}", kCompletion);
}

void refused(const std::string& param, const std::function<void()>& run) {
  try {
    run();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.param, param) << error.what();
    return;
  }
  ADD_FAILURE() << "not refused: " << param;
}

TEST(Params, DefaultsAreThoseOfTheModel) {
  const ApiParams p = chat("");
  EXPECT_EQ(p.n, 1);
  EXPECT_FALSE(p.stream || p.logprobs || p.echo || p.seed || p.max_tokens || p.best_of);
  EXPECT_TRUE(p.sampling.empty() && p.stop.empty() && p.logit_bias.empty());
  EXPECT_EQ(p.messages, R"([{"role":"user","content":"x"}])");
}

TEST(Params, EverySamplingParameterOfTheEngineIsOne) {
  for (const SamplingField& field : sampling_fields()) {
    if (std::string_view(field.name) == "seed") continue;
    const ApiParams p = completion(fmt::format("\"{}\":1", field.name));
    ASSERT_EQ(p.sampling.size(), 1u) << field.name;
    EXPECT_EQ(p.sampling[0].first, &field);
    EXPECT_EQ(p.sampling[0].second, 1);
    refused(field.name, [&] { completion(fmt::format("\"{}\":{}", field.name, field.max * 2 + 1)); });
    for (const double bound : {field.min, field.max}) {  // also once it is a float
      SamplingParams sampling;
      field.set(sampling, completion(fmt::format("\"{}\":{}", field.name, bound)).sampling[0].second);
      EXPECT_NO_THROW(check_sampling(sampling, 1)) << field.name;
    }
    refused(field.name, [&] { completion(fmt::format("\"{}\":\"1\"", field.name)); });
  }
}

TEST(Params, ValuesArrive) {
  const ApiParams p = chat(
      R"("model":"m","stream":true,"stream_options":{"include_usage":true},"n":3,"stop":["a","b"],"seed":-1,"logprobs":true,)"
      R"("top_logprobs":4,"max_completion_tokens":9,"min_tokens":2,"ignore_eos":true,"return_token_ids":true,"priority":-3,)"
      R"("logit_bias":{"5":-2.5},"chat_template_kwargs":{"enable_thinking":false,"a":1})");
  EXPECT_EQ(p.model, "m");
  EXPECT_TRUE(p.stream && p.include_usage && p.logprobs && p.ignore_eos && p.return_token_ids);
  EXPECT_EQ(p.n, 3);
  EXPECT_EQ(p.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_LT(*p.seed, uint64_t{1} << 53);
  EXPECT_EQ(p.top_logprobs, 4);
  EXPECT_EQ(p.max_tokens, 9);
  EXPECT_EQ(p.min_tokens, 2);
  EXPECT_EQ(p.priority, -3);
  ASSERT_EQ(p.logit_bias.size(), 1u);
  EXPECT_EQ(p.logit_bias[0].token, 5);
  EXPECT_EQ(p.logit_bias[0].bias, -2.5f);
  EXPECT_EQ(p.template_kwargs, R"({"enable_thinking":false,"a":1})");
  EXPECT_EQ(completion(R"("stop":"end")").stop, (std::vector<std::string>{"end"}));
  EXPECT_EQ(completion(R"("logprobs":0)").top_logprobs, 0);
  EXPECT_TRUE(completion(R"("logprobs":0)").logprobs);
}

TEST(Params, PromptsOfEveryForm) {
  const auto prompts = [](const std::string& json) {
    return parse_params("{\"prompt\":" + json + "}", kCompletion).prompts;
  };
  EXPECT_EQ(prompts("\"a\"")[0].text, "a");
  EXPECT_EQ(prompts("[1,2]")[0].ids, (std::vector<Token>{1, 2}));
  EXPECT_EQ(prompts("[1,2]").size(), 1u);
  EXPECT_EQ(prompts("[\"a\",\"b\"]")[1].text, "b");
  EXPECT_EQ(prompts("[[1],[2,3]]")[1].ids, (std::vector<Token>{2, 3}));
  EXPECT_TRUE(prompts("[]")[0].is_ids);  // an empty prompt, which the engine refuses
  for (const char* bad : {"5", "{}", "[1,\"a\"]", "[\"a\",1]", "[-1]", "[1.5]", "[[\"a\"]]", "[2147483648]", "true"}) {
    refused("prompt", [&] { prompts(bad); });
  }
}

TEST(Params, NamesWhatIsWrong) {
  refused("temprature", [] { chat("\"temprature\":1"); });
  refused("tools", [] { chat("\"tools\":[{}]"); });
  refused("response_format", [] { chat(R"("response_format":{"type":"json_object"})"); });
  refused("best_of", [] { completion("\"n\":2,\"best_of\":1"); });
  refused("n", [] { completion("\"n\":1e9"); });
  refused("messages", [] { parse_params("{}", kChat); });
  refused("prompt", [] { parse_params("{}", kTokenize); });
  refused("prompt", [] { parse_params(R"({"prompt":"x","messages":[{"role":"user","content":"x"}]})", kTokenize); });
  refused("prompt", [] { parse_params(R"({"prompt":["x"]})", kTokenize); });
  refused("tokens", [] { parse_params(R"({"tokens":"x"})", kDetokenize); });
  refused("tokens", [] { parse_params("{}", kDetokenize); });
  refused("seed", [] { chat("\"seed\":9007199254740993"); });  // as a double it would be one less
  refused("seed", [] { chat("\"seed\":-9007199254740993"); });
  refused("model", [] { chat("\"model\":\"\""); });
  refused("metadata", [] { chat("\"metadata\":5"); });
  refused("max_tokens", [] { chat("\"max_tokens\":0"); });
  refused("", [] { parse_params("[1]", kChat); });
  refused("", [] { parse_params("{", kChat); });
}

TEST(Params, MessagesBecomeWhatTemplatesKnow) {
  const auto messages = [](const std::string& json) {
    return parse_params("{\"messages\":" + json + "}", kChat).messages;
  };
  EXPECT_EQ(messages(R"([{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"role":"developer"}])"),
            R"([{"role":"system","content":"a\nb"}])");
  EXPECT_EQ(messages(R"([{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[],"audio":null}])"),
            R"([{"role":"assistant","content":"","reasoning_content":"r"}])");
}

TEST(Params, OpenApiKnowsThemAll) {
  const Json document = parse_json(openapi_json({.version = "1", .models = {"m"}, .vocab = 9}), "document");
  const Json& schema = document["paths"]["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]
                               ["schema"]["properties"];
  for (const Param& param : params()) {
    if ((param.dialects & kCompletion) != 0) {
      EXPECT_TRUE(schema.contains(param.name)) << param.name;
    }
  }
  EXPECT_EQ(schema["top_p"]["maximum"], 1);
  EXPECT_FALSE(schema.contains("messages"));
  EXPECT_THAT(openapi_page("1"), HasSubstr("typical_p"));
}

}  // namespace
}  // namespace baize::serve
