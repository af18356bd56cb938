#include "store/hub.h"

#include <cctype>

#include "base/json.h"

namespace baize::store {

namespace {
struct HubAccess {
  std::string endpoint;
  std::vector<std::string> secret_headers;
  std::string token_name;
};

std::string first_set(std::initializer_list<const char*> names, const char* otherwise) {
  for (const char* name : names) {
    std::string value = env(name);
    while (value.ends_with('/')) value.pop_back();
    if (!value.empty()) return value;
  }
  return otherwise;
}

std::string token_from(const char* name) {
  const std::string token = env(name);
  for (const char c : token) {
    if (!std::isgraph(static_cast<unsigned char>(c))) {  // a line break would forge a header
      fail(ErrorKind::kInvalidArgument, "the token in {} has spaces or control characters; set it anew", name);
    }
  }
  return token;
}

HubAccess access(Hub hub) {
  HubAccess access;
  if (hub == Hub::kHuggingFace) {
    access.endpoint = first_set({"BAIZE_HF_ENDPOINT", "HF_ENDPOINT"}, "https://huggingface.co");
    access.token_name = "HF_TOKEN";
    const std::string token = token_from("HF_TOKEN");
    if (!token.empty()) access.secret_headers = {"Authorization: Bearer " + token};
  } else {
    access.endpoint = first_set({"BAIZE_MS_ENDPOINT"}, "https://www.modelscope.cn");
    access.token_name = "MODELSCOPE_API_TOKEN";
    const std::string token = token_from("MODELSCOPE_API_TOKEN");
    // Its older interfaces read the cookie, the newer ones the header.
    if (!token.empty()) access.secret_headers = {"Authorization: Bearer " + token, "Cookie: m_session_id=" + token};
  }
  if (origin_of(access.endpoint).empty()) {
    fail(ErrorKind::kInvalidArgument, "the hub's address \"{}\" is not an http(s) address", access.endpoint);
  }
  return access;
}

HttpRequest request_to(const HubAccess& access, const std::string& path) {
  HttpRequest request;
  request.url = access.endpoint + path;
  request.secret_headers = access.secret_headers;
  request.plain_http_allowed = access.endpoint.starts_with("http://");  // set so on purpose
  request.token_hint =
      access.secret_headers.empty()
          ? fmt::format("the name may be wrong, or the model needs a token: set {}", access.token_name)
          : fmt::format("accept the model's terms on its page with the account of your {}, or check the token",
                        access.token_name);
  return request;
}

// -2 for a size that cannot be, which check_file refuses by the file's name.
int64_t size_field(const Json& json, const char* key) { return size_from_json(json.at(key)).value_or(-2); }

void check_file(const RemoteFile& file, std::string_view where) {
  if (!is_safe_relative_path(file.path)) {
    fail(ErrorKind::kNetwork, "{} lists the file name \"{}\", which would leave the model's folder; refused", where,
         one_line(file.path));
  }
  if (file.bytes < -1) fail(ErrorKind::kNetwork, "{} gives an impossible size for {}", where, file.path);
  if (!file.sha256.empty() && !is_sha256(file.sha256)) {
    fail(ErrorKind::kNetwork, "{} gives an invalid SHA-256 for {}", where, file.path);
  }
}

[[noreturn]] void fail_on_form(std::string_view where) {
  fail(ErrorKind::kNetwork, "{} did not answer with a list of files; check the hub's address and try again", where);
}

// Runs `parse` on the hub's answer; anything of an unexpected form is the hub's fault.
template <typename Parse>
HubListing parse_listing(std::string_view text, std::string_view where, Parse parse) {
  try {
    HubListing listing = parse(parse_json(text, where));
    if (listing.files.size() > kMaxFiles) fail(ErrorKind::kNetwork, "{} lists more than {} files", where, kMaxFiles);
    for (const RemoteFile& file : listing.files) check_file(file, where);
    return listing;
  } catch (const Json::exception&) {
    fail_on_form(where);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCorrupt) throw;
    fail_on_form(where);
  }
}
}  // namespace

HubListing parse_hugging_face(std::string_view text, std::string_view where) {
  return parse_listing(text, where, [](const Json& json) {
    HubListing listing;
    listing.revision = json.value("sha", "");
    for (const Json& entry : json.at("siblings")) {
      RemoteFile file;
      file.path = entry.at("rfilename").get<std::string>();
      if (entry.contains("size") && !entry["size"].is_null()) file.bytes = size_field(entry, "size");
      if (entry.contains("lfs") && entry["lfs"].is_object()) {
        file.sha256 = entry["lfs"].at("sha256").get<std::string>();
        file.bytes = size_field(entry["lfs"], "size");
      }
      listing.files.push_back(std::move(file));
    }
    return listing;
  });
}

HubListing parse_modelscope(std::string_view text, std::string_view where) {
  return parse_listing(text, where, [](const Json& json) {
    HubListing listing;
    for (const Json& entry : json.at("Data").at("Files")) {
      if (entry.value("Type", "blob") == "tree") continue;
      RemoteFile file;
      file.path = entry.at("Path").get<std::string>();
      file.bytes = size_field(entry, "Size");
      if (entry.contains("Sha256") && entry["Sha256"].is_string()) file.sha256 = entry["Sha256"].get<std::string>();
      listing.files.push_back(std::move(file));
    }
    return listing;
  });
}

HubListing list_repository(FetchContext& context, const HubSource& source) {
  const HubAccess hub = access(source.hub);
  if (source.hub == Hub::kHuggingFace) {
    const std::string revision = source.revision.empty() ? "main" : source.revision;
    const std::string path =
        fmt::format("/api/models/{}/revision/{}?blobs=true", source.repo, percent_encode(revision, false));
    const HttpRequest request = request_to(hub, path);
    HubListing listing = parse_hugging_face(fetch_text(context, request), origin_of(request.url));
    if (!is_safe_relative_path(listing.revision)) listing.revision = revision;
    return listing;
  }
  const std::string revision = source.revision.empty() ? "master" : source.revision;
  const std::string path = fmt::format("/api/v1/models/{}/repo/files?Revision={}&Recursive=true", source.repo,
                                       percent_encode(revision, false));
  const HttpRequest request = request_to(hub, path);
  HubListing listing = parse_modelscope(fetch_text(context, request), origin_of(request.url));
  listing.revision = revision;
  return listing;
}

HttpRequest file_request(const HubSource& source, const std::string& revision, const std::string& path) {
  const std::string version = percent_encode(revision, false);
  const std::string address = source.hub == Hub::kHuggingFace
                                  ? fmt::format("/{}/resolve/{}/{}", source.repo, version, percent_encode(path, true))
                                  : fmt::format("/api/v1/models/{}/repo?Revision={}&FilePath={}", source.repo, version,
                                                percent_encode(path, false));
  return request_to(access(source.hub), address);
}

}  // namespace baize::store
