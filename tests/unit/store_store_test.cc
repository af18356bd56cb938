// The store as its users see it: pull from disk, list, resolve, remove, find_model.
#include "store/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"
#include "base/text.h"
#include "unit/store_folder.h"

namespace baize::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Stopped : public Progress {
 public:
  bool cancelled() override { return true; }
};

class StoreTest : public testing::Test {
 protected:
  StoreTest() : store_(folder_.path() / "home") {}

  fs::path write(const std::string& name, const std::string& content) {
    const fs::path path = folder_.path() / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  fs::path write_folder(const std::string& weights) {
    for (const char* name : {"config.json", "tokenizer.json"}) write(std::string("tiny/") + name, "{}");
    write("tiny/pytorch_model.bin", "not taken");
    write("tiny/model.safetensors", weights);
    return folder_.path() / "tiny";
  }

  Manifest pull(const fs::path& source, const std::string& name = "") {
    return store_.pull({.source = source.string(), .name = name}, quiet_);
  }

  std::string error(const std::function<void()>& work, ErrorKind kind) {
    try {
      work();
    } catch (const Error& e) {
      EXPECT_EQ(std::string(to_string(e.kind())), to_string(kind)) << e.what();
      return e.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Manifest& manifest : store_.list()) all.push_back(manifest.name);
    return all;
  }

  size_t count(const char* below) const {
    std::error_code ignored;
    return static_cast<size_t>(std::distance(fs::directory_iterator(store_.root() / below, ignored), {}));
  }

  TestFolder folder_;
  Store store_;
  Progress quiet_;
};

TEST_F(StoreTest, AMissingStoreIsEmpty) {
  EXPECT_TRUE(store_.list().empty());
  EXPECT_FALSE(store_.find("x"));
  EXPECT_EQ(store_.remove_unused(), 0);
  EXPECT_FALSE(fs::exists(store_.root())) << "looking must not create anything";
}

TEST_F(StoreTest, PullsOneGguf) {
  const Manifest manifest = pull(write("m/Tiny.gguf", "GGUF weights"));
  EXPECT_EQ(manifest.name, "Tiny");
  EXPECT_EQ(manifest.source, (folder_.path() / "m/Tiny.gguf").string());
  const std::string path = store_.resolve("Tiny");
  EXPECT_TRUE(path.ends_with("/Tiny.gguf"));
  EXPECT_EQ(read_file(path), "GGUF weights");
  EXPECT_THAT(names(), ElementsAre("Tiny"));
  EXPECT_EQ(count("tmp"), 0u);
}

TEST_F(StoreTest, PullsASplitGguf) {
  write("big-00002-of-00002.gguf", "GGUF two");
  pull(write("big-00001-of-00002.gguf", "GGUF one"));
  const fs::path first = store_.resolve("big");
  EXPECT_EQ(read_file(first.string()), "GGUF one");
  EXPECT_EQ(read_file((first.parent_path() / "big-00002-of-00002.gguf").string()), "GGUF two");
  fs::remove(folder_.path() / "big-00002-of-00002.gguf");
  EXPECT_THAT(error([&] { pull(folder_.path() / "big-00001-of-00002.gguf", "again"); }, ErrorKind::kNotFound),
              HasSubstr("big-00002-of-00002.gguf"));
  EXPECT_THAT(names(), ElementsAre("big"));
}

TEST_F(StoreTest, PullsAFolder) {
  const Manifest manifest = pull(write_folder("tensors"));
  EXPECT_EQ(manifest.files.size(), 3u);
  const fs::path folder = store_.resolve("tiny");
  EXPECT_EQ(read_file((folder / "model.safetensors").string()), "tensors");
  EXPECT_EQ(read_file((folder / "config.json").string()), "{}");
  EXPECT_FALSE(fs::exists(folder / "pytorch_model.bin"));
  EXPECT_EQ(count("blobs"), 2u) << "equal files share one blob";
}

TEST_F(StoreTest, AChangedFolderReplacesTheOld) {
  pull(write_folder("old"));
  const std::string before = store_.resolve("tiny");
  const std::string date = store_.list()[0].date;
  pull(write_folder("new tensors"));
  const std::string after = store_.resolve("tiny");
  EXPECT_EQ(read_file(after + "/model.safetensors"), "new tensors");
  EXPECT_NE(before, after);
  EXPECT_FALSE(fs::exists(before));
  EXPECT_EQ(count("blobs"), 2u);
  EXPECT_THAT(names(), ElementsAre("tiny"));
}

TEST_F(StoreTest, ANameIsNotTakenOverBySomethingElse) {
  pull(write("a/x.gguf", "GGUF a"));
  const fs::path other = write("b/x.gguf", "GGUF b");
  EXPECT_THAT(error([&] { pull(other); }, ErrorKind::kInvalidArgument), HasSubstr("--name"));
  EXPECT_EQ(pull(other, "y").name, "y");
  EXPECT_EQ(read_file(store_.resolve("x")), "GGUF a");
  EXPECT_EQ(read_file(store_.resolve("y")), "GGUF b");
}

TEST_F(StoreTest, RefusesWhatIsNoModel) {
  EXPECT_THAT(error([&] { pull(write("x.bin", "x")); }, ErrorKind::kUnsupported), HasSubstr(".gguf"));
  EXPECT_THAT(error([&] { pull("no/such/file"); }, ErrorKind::kNotFound), HasSubstr("hf:owner/repo"));
  fs::create_directories(folder_.path() / "empty");
  error([&] { pull(folder_.path() / "empty"); }, ErrorKind::kUnsupported);
  error([&] { pull(write("x.gguf", "GGUF"), "bad name"); }, ErrorKind::kInvalidArgument);
  EXPECT_TRUE(store_.list().empty());
}

TEST_F(StoreTest, ADigestHoldsALocalFileToIt) {
  const fs::path file = write("x.gguf", "GGUF x");
  EXPECT_THAT(error([&] { store_.pull({.source = file.string(), .sha256 = std::string(64, '0')}, quiet_); },
                    ErrorKind::kInvalidArgument),
              HasSubstr("SHA-256"));
  EXPECT_EQ(count("blobs"), 0u);
  error([&] { store_.pull({.source = file.string(), .sha256 = "12"}, quiet_); }, ErrorKind::kInvalidArgument);
  EXPECT_NO_THROW(store_.pull({.source = file.string(), .sha256 = sha256_of("GGUF x")}, quiet_));
  error([&] { store_.pull({.source = write_folder("w").string(), .sha256 = sha256_of("w")}, quiet_); },
        ErrorKind::kInvalidArgument);
}

TEST_F(StoreTest, StopsWhenAsked) {
  Stopped stopped;
  error([&] { store_.pull({.source = write("x.gguf", "GGUF").string()}, stopped); }, ErrorKind::kCancelled);
  EXPECT_TRUE(store_.list().empty());
}

TEST_F(StoreTest, ResolveNoticesDamage) {
  pull(write_folder("tensors"));
  const fs::path blob = fs::canonical(store_.resolve("tiny") + "/model.safetensors");
  fs::permissions(blob, fs::perms::owner_write, fs::perm_options::add);
  fs::remove(folder_.path() / "tiny/model.safetensors");  // a hard link to the blob, perhaps
  fs::resize_file(blob, 3);
  EXPECT_THAT(error([&] { store_.resolve("tiny"); }, ErrorKind::kCorrupt), HasSubstr("3 bytes instead of 7"));
  fs::remove(blob);
  EXPECT_THAT(error([&] { store_.resolve("tiny"); }, ErrorKind::kCorrupt),
              HasSubstr("model.safetensors of the model tiny is missing"));
  pull(write_folder("tensors"));
  EXPECT_EQ(read_file(store_.resolve("tiny") + "/model.safetensors"), "tensors");
}

TEST_F(StoreTest, ResolveRestoresLostLinks) {
  pull(write_folder("tensors"));
  fs::remove_all(store_.root() / "models");
  fs::create_directories(store_.root() / "models");
  EXPECT_EQ(read_file(store_.resolve("tiny") + "/model.safetensors"), "tensors");
}

TEST_F(StoreTest, TheStoreCanBeMoved) {
  pull(write("a.gguf", "GGUF a"));
  fs::rename(store_.root(), folder_.path() / "moved");
  EXPECT_EQ(read_file(Store(folder_.path() / "moved").resolve("a")), "GGUF a");
}

TEST_F(StoreTest, RemoveKeepsWhatOthersUse) {
  const fs::path file = write("a.gguf", std::string("GGUF") + std::string(996, 'x'));
  pull(file, "one");
  fs::remove(file);  // so that the blob is the only name of these bytes
  const fs::path copy = write("a.gguf", std::string("GGUF") + std::string(996, 'x'));
  pull(copy, "two");
  const std::vector<std::string> one = {"one"}, two = {"two"};
  EXPECT_EQ(store_.remove(one).freed, 0);
  EXPECT_EQ(read_file(store_.resolve("two")).size(), 1000u);
  const RemoveResult result = store_.remove(two);
  EXPECT_THAT(result.names, ElementsAre("two"));
  EXPECT_EQ(result.freed, 1000);
  EXPECT_EQ(count("blobs") + count("manifests") + count("models"), 0u);
  EXPECT_TRUE(fs::exists(copy)) << "the user's own file stays";
}

TEST_F(StoreTest, RemoveIsAllOrNothing) {
  pull(write("abc.gguf", "GGUF"));
  const std::vector<std::string> wanted = {"abc", "abd"};
  EXPECT_THAT(error([&] { store_.remove(wanted); }, ErrorKind::kNotFound), HasSubstr("\"abc\""));
  EXPECT_THAT(names(), ElementsAre("abc"));
}

TEST_F(StoreTest, RemoveUnusedTakesOnlyTheUnused) {
  pull(write("a.gguf", "GGUF a"));
  const Layout layout{store_.root()};
  {
    Partial(layout, "url-1", 0, quiet_).append(std::string_view("12345"));
  }
  write_note(layout, "url-1", {.url = "u", .validator = "v", .synced = 5});
  std::ofstream(layout.blob(sha256_of("orphan"))) << "orphan";
  EXPECT_GE(store_.remove_unused(), 11);
  EXPECT_EQ(count("blobs"), 1u);
  EXPECT_EQ(read_file(store_.resolve("a")), "GGUF a");
  const auto pulling = FileLock::try_take(layout.locks() / "pulls.lock", FileLock::Mode::kShared);
  ASSERT_TRUE(pulling);
  error([&] { store_.remove_unused(); }, ErrorKind::kResource);
}

TEST_F(StoreTest, ACorruptManifestHidesOnlyItself) {
  pull(write("a.gguf", "GGUF a"));
  std::ofstream(store_.root() / "manifests/b.json") << "{";
  std::ofstream(store_.root() / "manifests/c.json") << read_file((store_.root() / "manifests/a.json").string());
  EXPECT_THAT(names(), ElementsAre("a"));
  error([&] { store_.resolve("b"); }, ErrorKind::kCorrupt);
}

TEST_F(StoreTest, FindModelTakesPathsAndNames) {
  const fs::path file = write("dir/model.gguf", "GGUF");
  EXPECT_EQ(find_model(store_, file.string()), file.string());
  EXPECT_EQ(find_model(store_, (folder_.path() / "dir").string()), file.string()) << "a folder with one GGUF";
  write("dir/model2-00001-of-00002.gguf", "GGUF");
  EXPECT_EQ(find_model(store_, (folder_.path() / "dir").string()), (folder_.path() / "dir").string());
  const fs::path tiny = write_folder("w");
  EXPECT_EQ(find_model(store_, tiny.string()), tiny.string());
  pull(file, "owner/name:tag");
  EXPECT_EQ(find_model(store_, "owner/name:tag"), store_.resolve("owner/name:tag"));
}

TEST_F(StoreTest, FindModelSaysWhatToDo) {
  pull(write("tiny-chat.gguf", "GGUF"));
  const auto message = [&](const char* model) {
    return error([&] { find_model(store_, model); }, ErrorKind::kNotFound);
  };
  EXPECT_THAT(message("tiny-chta"), HasSubstr("\"tiny-chat\""));
  EXPECT_THAT(message("default"), HasSubstr("baize pull default"));
  EXPECT_THAT(message("hf:owner/repo"), HasSubstr("baize pull hf:owner/repo"));
  EXPECT_THAT(message("./missing.gguf"), HasSubstr("no file or folder ./missing.gguf"));
}

TEST_F(StoreTest, FindsByTheSourceItCameFrom) {
  const fs::path file = write("a.gguf", "GGUF a");
  pull(file, "b");
  EXPECT_EQ(store_.resolve(file.string()), store_.resolve("b"));
}

TEST(StoreRoot, FollowsTheEnvironment) {
  const auto with = [](const char* home, const char* cache) {
    ::setenv("BAIZE_HOME", home, 1);
    ::setenv("XDG_CACHE_HOME", cache, 1);
    return Store::default_root().string();
  };
  const std::string user = env("HOME");
  EXPECT_EQ(with("/a", "/b"), "/a");
  EXPECT_EQ(with("", "/b"), "/b/baize");
  ::setenv("HOME", "/c", 1);
  EXPECT_EQ(with("", ""), "/c/.cache/baize");
  ::setenv("HOME", "", 1);
  EXPECT_THROW(with("", ""), Error);
  ::setenv("HOME", user.c_str(), 1);
}

}  // namespace
}  // namespace baize::store
