// Digests, locks, atomic writes, partial blobs, helper programs, addresses: what the store stands on.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/text.h"
#include "store/blobs.h"
#include "store/http.h"
#include "store/process.h"
#include "unit/store_folder.h"

namespace baize::store {
namespace {

using testing::HasSubstr;

TEST(Digest, KnownValues) {  // FIPS 180-4's examples
  EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 pieces;
  pieces.update(std::string_view("x"));
  pieces.reset();
  pieces.update(std::string_view("a"));
  pieces.update(std::string_view("bc"));
  EXPECT_EQ(pieces.hex(), sha256_of("abc"));
  EXPECT_TRUE(is_sha256(sha256_of("")));
  EXPECT_FALSE(is_sha256(std::string(64, 'A')));
  EXPECT_FALSE(is_sha256(std::string(63, 'a')));
}

TEST(Files, FullDiskIsOneClearSentence) {
  const Fd full = open_file("/dev/full", O_WRONLY);
  try {
    write_all(full.get(), std::string_view("x"), "/models/blob");
    FAIL() << "wrote to a full disk";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    EXPECT_THAT(error.what(), HasSubstr("/models/blob"));
    EXPECT_THAT(error.what(), HasSubstr("the disk is full"));
    EXPECT_THAT(error.what(), HasSubstr("BAIZE_HOME"));
  }
}

TEST(Files, AsksForSpaceBeforehand) {
  EXPECT_NO_THROW(require_free_space("/", 1, "x"));
  EXPECT_NO_THROW(require_free_space("/", -1, "x"));
  EXPECT_THROW(require_free_space("/", int64_t{1} << 60, "x"), Error);
}

TEST(Files, AtomicWriteReplacesOrLeaves) {
  const TestFolder folder;
  const fs::path file = folder.path() / "f";
  write_atomically(file, "one", folder.path());
  write_atomically(file, "two", folder.path());
  EXPECT_EQ(read_file(file.string()), "two");
  EXPECT_THROW(write_atomically(folder.path() / "missing" / "f", "x", folder.path()), Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << "a temporary file stayed";
}

TEST(Files, LocksExclude) {
  const TestFolder folder;
  const fs::path path = folder.path() / "lock";
  using Mode = FileLock::Mode;
  {
    const auto first = FileLock::try_take(path, Mode::kShared);
    const auto second = FileLock::try_take(path, Mode::kShared);
    EXPECT_TRUE(first && second);
    EXPECT_FALSE(FileLock::try_take(path, Mode::kExclusive));
  }
  auto alone = FileLock::try_take(path, Mode::kExclusive);
  ASSERT_TRUE(alone);
  EXPECT_FALSE(FileLock::try_take(path, Mode::kShared));
  EXPECT_THROW(FileLock::take(path, Mode::kShared, [] { throw std::runtime_error("stop"); }), std::runtime_error);
  alone->downgrade();
  EXPECT_TRUE(FileLock::try_take(path, Mode::kShared));
}

class Blobs : public testing::Test {
 protected:
  Blobs() : layout_{folder_.path() / "store"} { layout_.create(); }
  TestFolder folder_;
  Layout layout_;
  Progress quiet_;
};

TEST_F(Blobs, PartialGrowsResumesAndFinishes) {
  {
    Partial partial(layout_, "key", 0, quiet_);
    partial.append(std::string_view("hello "));
  }
  EXPECT_EQ(partial_size(layout_, "key"), 6);
  Partial partial(layout_, "key", 6, quiet_);
  EXPECT_EQ(partial.size(), 6);
  EXPECT_EQ(partial.beginning(), "hello ");
  partial.append(std::string_view("world"));
  const Blob blob = partial.finish(partial.digest());
  EXPECT_EQ(blob.sha256, sha256_of("hello world"));
  EXPECT_TRUE(has_blob(layout_, blob.sha256, 11));
  EXPECT_FALSE(has_blob(layout_, blob.sha256, 12));
  EXPECT_EQ(partial_size(layout_, "key"), 0);
  struct stat info;
  ASSERT_EQ(::stat(layout_.blob(blob.sha256).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0444u);
}

TEST_F(Blobs, PartialKeepsOnlyWhatIsAskedFor) {
  {
    Partial(layout_, "key", 0, quiet_).append(std::string_view("abcdef"));
  }
  {
    Partial partial(layout_, "key", 3, quiet_);
    EXPECT_EQ(partial.size(), 3);
    partial.append(std::string_view("x"));
    EXPECT_EQ(partial.digest(), sha256_of("abcx"));
  }
  Partial partial(layout_, "key", 100, quiet_);
  EXPECT_EQ(partial.size(), 4);
  partial.restart();
  partial.append(std::string_view("y"));
  EXPECT_EQ(partial.digest(), sha256_of("y"));
  partial.discard();
  EXPECT_EQ(partial_size(layout_, "key"), 0);
}

TEST_F(Blobs, PartialDoesNotFollowLinks) {
  write_atomically(folder_.path() / "victim", "precious", folder_.path());
  fs::create_symlink(folder_.path() / "victim", layout_.blobs() / "key.partial");
  EXPECT_THROW(Partial(layout_, "key", 0, quiet_), Error);
  EXPECT_EQ(read_file((folder_.path() / "victim").string()), "precious");
}

TEST_F(Blobs, Notes) {
  EXPECT_FALSE(read_note(layout_, "key"));
  write_note(layout_, "key", {.url = "u", .validator = "\"v\"", .synced = 7});
  const auto note = read_note(layout_, "key");
  ASSERT_TRUE(note);
  EXPECT_EQ(note->url, "u");
  EXPECT_EQ(note->validator, "\"v\"");
  EXPECT_EQ(note->synced, 7);
  std::ofstream(layout_.blobs() / "key.partial.json") << "{";
  EXPECT_FALSE(read_note(layout_, "key"));
}

TEST_F(Blobs, AdoptsFiles) {
  const fs::path file = folder_.path() / "file";
  write_atomically(file, "content", folder_.path());
  const Blob blob = adopt_file(layout_, file, "", quiet_);
  EXPECT_EQ(blob.sha256, sha256_of("content"));
  EXPECT_EQ(read_file(layout_.blob(blob.sha256).string()), "content");
  EXPECT_TRUE(fs::exists(file));
  EXPECT_EQ(adopt_file(layout_, file, blob.sha256, quiet_).sha256, blob.sha256);
  fs::create_symlink(file, folder_.path() / "link");
  EXPECT_EQ(adopt_file(layout_, folder_.path() / "link", "", quiet_).sha256, blob.sha256);
  write_atomically(file, "other", folder_.path());
  EXPECT_THROW(adopt_file(layout_, file, blob.sha256, quiet_), Error);
  EXPECT_FALSE(fs::exists(layout_.blob(sha256_of("other"))));
  EXPECT_THROW(adopt_file(layout_, folder_.path() / "missing", "", quiet_), Error);
  EXPECT_THROW(adopt_file(layout_, folder_.path(), "", quiet_), Error);
  EXPECT_TRUE(fs::is_empty(layout_.temporary()));
}

TEST(Process, GivesOutputErrorsAndStatus) {
  std::string output;
  ProcessCall call{.arguments = {"sh", "-c", "echo out $NAME; echo err >&2; exit 3"},
                   .environment = {{"NAME", "value"}},
                   .output = [&](std::span<const char> bytes) { output.append(bytes.data(), bytes.size()); },
                   .tick = {}};
  const ProcessResult result = run_process(call);
  EXPECT_EQ(result.status, 3);
  EXPECT_EQ(result.errors, "err\n");
  EXPECT_EQ(output, "out value\n");
}

TEST(Process, MissingProgramsAndSignals) {
  EXPECT_THROW(run_process({.arguments = {"no-such-program-anywhere"}, .environment = {}, .output = {}, .tick = {}}),
               Error);
  const ProcessResult result =
      run_process({.arguments = {"sh", "-c", "kill -9 $$"}, .environment = {}, .output = {}, .tick = {}});
  EXPECT_EQ(result.status, 128 + 9);
}

TEST(Process, AThrowingCallbackEndsTheProgram) {
  const TestFolder folder;
  const std::string mark = (folder.path() / "mark").string();
  const ProcessCall call{
      .arguments = {"sh", "-c", "echo $$; sleep 600; echo late > " + mark},
      .environment = {},
      .output = [](std::span<const char> bytes) { throw std::runtime_error(std::string(bytes.data(), bytes.size())); },
      .tick = {}};
  try {
    run_process(call);
    FAIL() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(::kill(std::stoi(error.what()), 0), 0) << "the program still runs";
  }
}

TEST(Http, OriginsAndLoopback) {
  EXPECT_EQ(origin_of("https://Host.example/x?y"), "https://host.example:443");
  EXPECT_EQ(origin_of("http://u:p@h:81/x"), "http://h:81");
  EXPECT_EQ(origin_of("ftp://h/x"), "");
  EXPECT_EQ(origin_of("file:///etc/passwd"), "");
  EXPECT_EQ(origin_of("x.gguf"), "");
  for (const char* url : {"http://127.0.0.1:8000/x", "http://localhost/x", "http://[::1]:9/x", "http://127.9.9.9/"}) {
    EXPECT_TRUE(is_loopback(url)) << url;
  }
  for (const char* url :
       {"http://127.0.0.1.example.org/x", "http://10.0.0.1/x", "http://localhost.example/", "http://127.evil/"}) {
    EXPECT_FALSE(is_loopback(url)) << url;
  }
}

TEST(Http, ResolvesReferencesAndEncodes) {
  EXPECT_EQ(resolve_url("https://h/a/b?c", "../d"), "https://h/d");
  EXPECT_EQ(resolve_url("https://h/a/b", "/d?e=f"), "https://h/d?e=f");
  EXPECT_EQ(resolve_url("https://h/a", "http://other/x"), "http://other/x");
  EXPECT_EQ(origin_of(resolve_url("https://h/a", "file:///etc/passwd")), "");
  EXPECT_EQ(percent_encode("a b/c?d#e%", true), "a%20b/c%3Fd%23e%25");
  EXPECT_EQ(percent_encode("refs/pr/1", false), "refs%2Fpr%2F1");
}

TEST(Http, RefusesPlainHttpAndOtherSchemesBeforeConnecting) {
  HttpClient http;
  for (const char* url : {"http://example.invalid/x", "file:///etc/passwd", "nonsense"}) {
    EXPECT_THROW(http.get_text({.url = url}, {}), HttpError) << url;
  }
}

}  // namespace
}  // namespace baize::store
