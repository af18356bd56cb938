#include "text/utf8.h"

namespace baize {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// The first character of a non-empty text.
struct Prefix {
  size_t length;  // bytes of the character, or of the maximal subpart that is none
  enum Kind { kCharacter, kInvalid, kUnfinished } kind;
};

/// Bytes of the character that `lead` begins; 0 if it begins none.
size_t character_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  return lead < 0xF5 ? 4 : 0;
}

/// Whether `byte` may follow `lead` directly (table 3-7 of the Unicode standard).
bool may_follow(unsigned char lead, unsigned char byte) {
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  return byte >= low && byte <= high;
}

Prefix first_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = character_length(lead);
  if (length == 0) return {1, Prefix::kInvalid};
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, Prefix::kUnfinished};
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool valid = i == 1 ? may_follow(lead, byte) : (byte & 0xC0) == 0x80;
    if (!valid) return {i, Prefix::kInvalid};
  }
  return {length, Prefix::kCharacter};
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Prefix prefix = first_character(text.substr(at));
    if (prefix.kind != Prefix::kCharacter) return at;
    at += prefix.length;
  }
  return std::nullopt;
}

void Utf8Stream::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_ + std::string(bytes);
    bytes = joined;
    pending_.clear();
  }
  while (!bytes.empty()) {
    const Prefix prefix = first_character(bytes);
    if (prefix.kind == Prefix::kUnfinished) {
      pending_ = bytes;
      return;
    }
    out += prefix.kind == Prefix::kCharacter ? bytes.substr(0, prefix.length) : kReplacement;
    bytes.remove_prefix(prefix.length);
  }
}

void Utf8Stream::flush(std::string& out) {
  if (!pending_.empty()) out += kReplacement;
  pending_.clear();
}

}  // namespace baize
