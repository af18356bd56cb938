// The messages of a chat: checked, and brought into the form that chat templates know. Any thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace baize::serve {

/// JSON for ChatInput::messages: every content a text (parts are joined by line breaks), "developer" as "system",
/// members without a value left out. Throws ApiError naming the message at fault.
std::string check_messages(const nlohmann::ordered_json& messages);

}  // namespace baize::serve
