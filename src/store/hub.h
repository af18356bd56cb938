// The model hubs: what files a repository has, and the requests that fetch them. Hugging Face:
// /api/models/REPO/revision/REV ?blobs=true and /REPO/resolve/REV/FILE. ModelScope: /api/v1/models/REPO/repo/files and
// /repo?FilePath=. Addresses come from BAIZE_HF_ENDPOINT or HF_ENDPOINT, and BAIZE_MS_ENDPOINT; tokens from HF_TOKEN
// and MODELSCOPE_API_TOKEN. One thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "store/fetch.h"
#include "store/select.h"
#include "store/source.h"

namespace baize::store {

struct HubListing {
  std::string revision;  // the commit when the hub tells it, so that all files come from one version
  std::vector<RemoteFile> files;
};

/// Asks the hub for the repository's files. Throws Error(kNetwork) for refused access, unknown repositories, answers
/// that are not the hub's JSON, sizes that cannot be, and file names that would leave the model's folder.
HubListing list_repository(FetchContext& context, const HubSource& source);

/// The request for one file of that listing.
HttpRequest file_request(const HubSource& source, const std::string& revision, const std::string& path);

/// The files of a hub's answer (for list_repository and the tests). Throw Error(kNetwork).
HubListing parse_hugging_face(std::string_view json, std::string_view where);
HubListing parse_modelscope(std::string_view json, std::string_view where);

}  // namespace baize::store
