// The chat page: one self-contained file, built by ui/ and held in the program (cmake/embed.cmake).
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <array>

#include "serve/routes.h"

extern const char baize_chat_page[], baize_chat_page_end[];

namespace baize::serve::routes_impl {

namespace {

std::string sha256_base64(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data());
  std::array<unsigned char, 4 * ((SHA256_DIGEST_LENGTH + 2) / 3) + 1> out{};
  const int size = EVP_EncodeBlock(out.data(), hash.data(), static_cast<int>(hash.size()));
  return {reinterpret_cast<const char*>(out.data()), static_cast<size_t>(size)};
}

// Only the page's own inline scripts may run, whatever a model writes into the page.
std::string content_policy(std::string_view page) {
  std::string scripts;
  for (size_t at = page.find("<script"); at != std::string_view::npos; at = page.find("<script", at)) {
    const size_t begin = page.find('>', at);
    const size_t end = begin == std::string_view::npos ? begin : page.find("</script>", begin);
    if (end == std::string_view::npos) break;
    scripts += fmt::format(" 'sha256-{}'", sha256_base64(page.substr(begin + 1, end - begin - 1)));
    at = end;
  }
  return fmt::format(
      "default-src 'none'; script-src{}; style-src 'unsafe-inline'; img-src 'self' data: blob:; font-src data:; "
      "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      scripts.empty() ? " 'none'" : scripts);
}

}  // namespace

std::unique_ptr<Task> page(const Api&, const Request&, Reply& reply, const Wake&) {
  static const std::string_view html(baize_chat_page, static_cast<size_t>(baize_chat_page_end - baize_chat_page));
  static const std::string policy = content_policy(html);
  reply.content_type = "text/html; charset=utf-8";
  reply.headers.push_back({"Content-Security-Policy", policy});
  reply.headers.push_back({"X-Content-Type-Options", "nosniff"});
  reply.headers.push_back({"Referrer-Policy", "no-referrer"});
  reply.headers.push_back({"Cache-Control", "no-cache"});
  reply.body = html;
  return nullptr;
}

}  // namespace baize::serve::routes_impl
