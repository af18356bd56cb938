// The chat page (serve/chat_page.h).
#include "serve/chat_page.h"
#include "serve/routes.h"

namespace baize::serve::routes_impl {

std::unique_ptr<Task> page(const Api&, const Request& request, Reply& reply, const Wake&) {
  const bool gzip =
      !chat_page_gzip().empty() && request.header("Accept-Encoding").find("gzip") != std::string_view::npos;
  reply.content_type = "text/html; charset=utf-8";
  reply.headers.push_back({"Content-Security-Policy", std::string(kChatPagePolicy)});
  reply.headers.push_back({"X-Content-Type-Options", "nosniff"});
  reply.headers.push_back({"Referrer-Policy", "no-referrer"});
  reply.headers.push_back({"Cache-Control", "no-cache"});
  reply.headers.push_back({"Vary", "Accept-Encoding"});
  if (gzip) reply.headers.push_back({"Content-Encoding", "gzip"});
  reply.body = gzip ? chat_page_gzip() : chat_page();
  return nullptr;
}

}  // namespace baize::serve::routes_impl
