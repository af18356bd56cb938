// Sha256: a running SHA-256, the name of every blob in the store. One object belongs to one thread.
// Source: FIPS 180-4, computed by OpenSSL's EVP interface.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace baize::store {

class Sha256 {
 public:
  Sha256();
  void update(std::span<const char> bytes);
  /// 64 lower-case hex digits of everything given so far; the object must be reset() before further use.
  std::string hex();
  void reset();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

/// Digest of a short text.
std::string sha256_of(std::string_view text);

/// True for exactly 64 lower-case hex digits.
bool is_sha256(std::string_view text);

}  // namespace baize::store
