// Any body of a request is either read into parameters within their ranges, or refused with a 400 that is valid JSON.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "serve/api_error.h"
#include "serve/params.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baize;
  using namespace baize::serve;
  if (size == 0) return 0;
  const auto dialect = static_cast<Dialect>(1u << (data[0] % 4));
  const std::string_view body(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    const ApiParams params = parse_params(body, dialect);
    BAIZE_CHECK(params.n >= 1 && params.best_of.value_or(params.n) >= params.n);
    BAIZE_CHECK(!params.max_tokens || params.min_tokens <= *params.max_tokens);
    for (const auto& [field, value] : params.sampling) check_sampling_value(*field, value);
    if (dialect == kChat) BAIZE_CHECK(Json::parse(params.messages).is_array());
  } catch (const ApiError& error) {
    BAIZE_CHECK(error.status == 400);
    const Json json = Json::parse(error_json(error));
    BAIZE_CHECK(json["error"]["message"].get_ref<const std::string&>().size() < 2000 + size);
  }
  return 0;
}
