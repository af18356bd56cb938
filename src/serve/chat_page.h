// The chat page of ui/, built by npm into one file and embedded by cmake/ui.cmake. Constant, usable from any thread.
// The page brings its own content security policy; a server adds what a <meta> cannot say (kChatPagePolicy).
#pragma once

#include <string_view>

namespace baize::serve {

/// The page, as text/html in UTF-8. In a build with -DBAIZE_UI=OFF it only says that the page was left out.
std::string_view chat_page();

/// The same page compressed with gzip, for `Content-Encoding: gzip`; empty if the page was left out.
std::string_view chat_page_gzip();

/// A Content-Security-Policy header for the page: no other site may show it in a frame.
constexpr std::string_view kChatPagePolicy = "frame-ancestors 'none'";

}  // namespace baize::serve
