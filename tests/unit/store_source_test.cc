// Sources, names, file names from strangers, the catalogue, and which files of a repository make a model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "store/catalogue.h"
#include "store/hub.h"
#include "store/manifest.h"
#include "store/select.h"
#include "store/source.h"

namespace baize::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The message of the Error that `work` throws, which must be of this kind.
template <typename Work>
std::string error_of(ErrorKind kind, Work work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.kind()), std::string(to_string(kind))) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Source, ParsesHubForms) {
  const auto whole = std::get<HubSource>(parse_source("hf:owner/repo"));
  EXPECT_EQ(whole.hub, Hub::kHuggingFace);
  EXPECT_EQ(whole.repo, "owner/repo");
  EXPECT_EQ(whole.revision, "");
  EXPECT_EQ(whole.file, "");
  const auto pinned = std::get<HubSource>(parse_source("ms:o.w-n_er/re.po@refs/pr/7:sub/file.gguf"));
  EXPECT_EQ(pinned.hub, Hub::kModelScope);
  EXPECT_EQ(pinned.repo, "o.w-n_er/re.po");
  EXPECT_EQ(pinned.revision, "refs/pr/7");
  EXPECT_EQ(pinned.file, "sub/file.gguf");
}

TEST(Source, RefusesOtherHubForms) {
  for (const char* text : {"hf:", "hf:repo", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:-a/b", "hf:a b/c",
                           "hf:a/b:", "hf:a/b@", "hf:a/b:../x", "hf:a/b:/etc/passwd", "hf:a/b@../../x", "hf:a/b?x=1"}) {
    const std::string message = error_of(ErrorKind::kInvalidArgument, [&] { parse_source(text); });
    EXPECT_THAT(message, HasSubstr("hf:owner/repo[@revision][:file]")) << text;
  }
}

TEST(Source, ParsesPypi) {
  const auto source = std::get<PypiSource>(parse_source("pypi:some-package==0.1.2:folder/model.gguf"));
  EXPECT_EQ(source.package, "some-package");
  EXPECT_EQ(source.version, "0.1.2");
  EXPECT_EQ(source.file, "folder/model.gguf");
  for (const char* text : {"pypi:p", "pypi:p==1", "pypi:p:f", "pypi:==1:f", "pypi:p==1:", "pypi:p==1:../f",
                           "pypi:--index==1:f", "pypi:p:x==1"}) {
    error_of(ErrorKind::kInvalidArgument, [&] { parse_source(text); });
  }
}

TEST(Source, UrlNamesItsFile) {
  EXPECT_EQ(std::get<UrlSource>(parse_source("https://host/a/b%20c.gguf?x=/y.bin#z")).file, "b c.gguf");
  for (const char* text : {"https://host", "https://host/", "https://host/model.bin", "https://host/.gguf",
                           "https://host/a%2f..%2fb.gguf", "https://host/a%00b.gguf"}) {
    EXPECT_THAT(error_of(ErrorKind::kInvalidArgument, [&] { parse_source(text); }), HasSubstr(".gguf")) << text;
  }
}

TEST(Source, AnythingElseIsLocal) {
  EXPECT_EQ(std::get<LocalSource>(parse_source("./models/x.gguf")).path, "./models/x.gguf");
  error_of(ErrorKind::kInvalidArgument, [] { parse_source(""); });
}

TEST(Source, DefaultNames) {
  const auto name = [](const char* text) { return default_name(parse_source(text)); };
  EXPECT_EQ(name("hf:owner/repo"), "owner/repo");
  EXPECT_EQ(name("hf:owner/repo@v1:a/model-Q8_0.gguf"), "owner/repo@v1:model-Q8_0");
  EXPECT_EQ(name("https://host/big-00001-of-00003.gguf"), "big");
  EXPECT_EQ(name("pypi:p==1:folder/Some Model.gguf"), "Some-Model");
  EXPECT_EQ(name("/data/models/tiny/"), "tiny");
  EXPECT_EQ(name("/data/models/.hidden.gguf"), "hidden");
  for (const char* text : {"hf:owner/repo@refs/pr/1:x.gguf", "/data/\xff\xfe.gguf"})
    EXPECT_NO_THROW(check_name(name(text)));
}

TEST(Source, NamesAreChecked) {
  EXPECT_NO_THROW(check_name("owner/repo@v1:model+x_1.0"));
  for (const std::string& name :
       {std::string(), std::string("-x"), std::string(".x"), std::string("/x"), std::string("a b"), std::string("a\nb"),
        std::string(241, 'a'), std::string(100, ':')}) {
    error_of(ErrorKind::kInvalidArgument, [&] { check_name(name); });
  }
}

TEST(Source, SafePathsStayInside) {
  for (const char* path : {"config.json", "a/b/c.txt", "..a", "a..b", "a b"})
    EXPECT_TRUE(is_safe_relative_path(path)) << path;
  for (const std::string& path :
       {std::string(), std::string("/a"), std::string("a/"), std::string("a//b"), std::string(".."),
        std::string("../a"), std::string("a/../b"), std::string("./a"), std::string("a\\b"), std::string("a\nb"),
        std::string("a\0b", 3), std::string("a\x7f"), std::string(513, 'a'), std::string(256, 'a')}) {
    EXPECT_FALSE(is_safe_relative_path(path)) << path;
  }
}

TEST(Source, SplitParts) {
  EXPECT_THAT(split_parts("x.gguf"), ElementsAre("x.gguf"));
  EXPECT_THAT(split_parts("d/x-00001-of-00002.gguf"),
              ElementsAre("d/x-00001-of-00002.gguf", "d/x-00002-of-00002.gguf"));
  EXPECT_THAT(split_parts("x-00002-of-00002.gguf"), IsEmpty());
  EXPECT_THAT(split_parts("x-00001-of-00000.gguf"), IsEmpty());
  EXPECT_THAT(split_parts("x-0000a-of-00002.gguf"), ElementsAre("x-0000a-of-00002.gguf"));
  EXPECT_THAT(split_parts("-00001-of-00002.gguf"), ElementsAre("-00001-of-00002.gguf"));  // nothing before it
}

TEST(Catalogue, BuiltInEntriesParse) {
  ASSERT_FALSE(catalogue().empty());
  const CatalogueEntry* entry = find_in_catalogue("default");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(find_in_catalogue(entry->name), entry);
  EXPECT_EQ(entry->sha256.size(), 64u);
  EXPECT_GT(entry->bytes, 0);
  EXPECT_TRUE(std::holds_alternative<PypiSource>(parse_source(entry->source)));
  for (const CatalogueEntry& each : catalogue()) {
    EXPECT_NO_THROW(check_name(each.name));
    EXPECT_FALSE(std::holds_alternative<LocalSource>(parse_source(each.source))) << each.source;
  }
  EXPECT_EQ(find_in_catalogue("no such name"), nullptr);
}

TEST(Catalogue, RefusesWrongEntries) {
  for (const char* json : {"[]", "{}", R"({"models":[{"name":"a"}]})", R"({"models":[{"name":1,"source":"s"}]})",
                           R"({"models":[{"name":"a","source":"s","sha256":"12"}]})",
                           R"({"models":[{"name":"a","source":"s"},{"name":"b","source":"s","aliases":["a"]}]})"}) {
    error_of(ErrorKind::kCorrupt, [&] { parse_catalogue(json); });
  }
}

TEST(Manifest, RoundTripAndRefusals) {
  const std::string digest(64, 'a');
  const Manifest manifest{
      .name = "n", .source = "s", .date = utc_now(), .files = {{"a/b", digest, 5, "\"e\""}, {"c", digest, 7, ""}}};
  const std::string json = to_json(manifest);
  const Manifest again = parse_manifest(json, "here");
  EXPECT_EQ(to_json(again), json);
  EXPECT_EQ(again.bytes(), 12);
  EXPECT_EQ(again.date.size(), std::string("2026-11-23T10:05:00Z").size());
  for (const std::string& file :
       {R"({"path":"../x","sha256":")" + digest + R"(","bytes":1})",
        std::string(R"({"path":"x","sha256":"12","bytes":1})"),
        R"({"path":"x","sha256":")" + digest + R"(","bytes":-1})",
        R"({"path":"x","sha256":")" + digest + R"(","bytes":1e300})", std::string("{}"), std::string("1")}) {
    const std::string text = R"({"name":"n","source":"s","date":"d","files":[)" + file + "]}";
    EXPECT_THAT(error_of(ErrorKind::kCorrupt, [&] { parse_manifest(text, "here"); }), HasSubstr("here")) << file;
  }
  error_of(ErrorKind::kCorrupt, [] { parse_manifest(R"({"name":"n","source":"s","date":"d","files":[]})", "here"); });
  error_of(ErrorKind::kCorrupt, [] { parse_manifest("{", "here"); });
}

TEST(Manifest, EncodedNamesAreDistinctFileNames) {
  EXPECT_EQ(encode_name("Owner/repo:x@1+2"), "Owner%2Frepo%3Ax%401%2B2");
  EXPECT_EQ(encode_name(".."), "%2E.");
  EXPECT_NE(encode_name("a/b"), encode_name("a%2Fb"));
}

std::vector<RemoteFile> files(std::initializer_list<const char*> paths) {
  std::vector<RemoteFile> list;
  for (const char* path : paths) list.push_back({.path = path, .bytes = 1, .sha256 = ""});
  return list;
}

std::vector<std::string> chosen(const std::vector<RemoteFile>& all, const char* wanted = "") {
  std::vector<std::string> paths;
  for (const RemoteFile& file : choose_files(all, wanted, "o/r")) paths.push_back(file.path);
  return paths;
}

TEST(Select, SafetensorsWithTheirTexts) {
  EXPECT_THAT(
      chosen(files({".gitattributes", "README.md", "config.json", "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                    "model.onnx", "consolidated.safetensors", "original/params.json", "original/model.safetensors",
                    "tokenizer.json", "tokenizer.model", "chat_template.jinja", "merges.txt", "x.gguf"})),
      ElementsAre("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                  "model.safetensors.index.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja",
                  "merges.txt"));
  EXPECT_THAT(chosen(files({"config.json", "consolidated.safetensors"})),
              ElementsAre("config.json", "consolidated.safetensors"));
  EXPECT_THAT(error_of(ErrorKind::kUnsupported, [] { chosen(files({"model.safetensors"})); }),
              HasSubstr("config.json"));
}

TEST(Select, OneGgufOfMany) {
  const auto repo = files({"README.md", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "big/m-f16-00001-of-00002.gguf",
                           "big/m-f16-00002-of-00002.gguf"});
  EXPECT_THAT(chosen(repo, "m-Q4_K_S.gguf"), ElementsAre("m-Q4_K_S.gguf"));
  EXPECT_THAT(chosen(repo, "q4_k_m"), ElementsAre("m-Q4_K_M.gguf"));
  EXPECT_THAT(chosen(repo, "F16"), ElementsAre("big/m-f16-00001-of-00002.gguf", "big/m-f16-00002-of-00002.gguf"));
  EXPECT_THAT(error_of(ErrorKind::kInvalidArgument, [&] { chosen(repo, "Q4_K"); }),
              HasSubstr("m-Q4_K_M.gguf, m-Q4_K_S.gguf"));
  EXPECT_THAT(error_of(ErrorKind::kInvalidArgument, [&] { chosen(repo); }), HasSubstr("several GGUF"));
  EXPECT_THAT(error_of(ErrorKind::kInvalidArgument, [&] { chosen(repo, "big/m-f16-00002-of-00002.gguf"); }),
              HasSubstr("00001"));
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [&] { chosen(repo, "READM.md"); }), HasSubstr("README.md"));
  EXPECT_THAT(chosen(files({"only.gguf", "README.md"})), ElementsAre("only.gguf"));
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [] { chosen(files({"x-00001-of-00002.gguf"})); }),
              HasSubstr("x-00002-of-00002.gguf"));
  EXPECT_THAT(error_of(ErrorKind::kUnsupported, [] { chosen(files({"pytorch_model.bin", "config.json"})); }),
              HasSubstr(".safetensors"));
}

TEST(Hub, ReadsHuggingFaceListings) {
  const std::string digest(64, 'b');
  const HubListing listing = parse_hugging_face(
      R"({"sha":"abc","siblings":[{"rfilename":"config.json","size":12},{"rfilename":"m.safetensors","size":900,"lfs":{"sha256":")" +
          digest + R"(","size":900,"pointerSize":134}},{"rfilename":"x","size":null}]})",
      "the hub");
  EXPECT_EQ(listing.revision, "abc");
  ASSERT_EQ(listing.files.size(), 3u);
  EXPECT_EQ(listing.files[0].bytes, 12);
  EXPECT_EQ(listing.files[0].sha256, "");
  EXPECT_EQ(listing.files[1].sha256, digest);
  EXPECT_EQ(listing.files[1].bytes, 900);
  EXPECT_EQ(listing.files[2].bytes, -1);
}

TEST(Hub, ReadsModelScopeListings) {
  const std::string digest(64, 'c');
  const HubListing listing = parse_modelscope(
      R"({"Code":200,"Data":{"Files":[{"Type":"tree","Path":"sub","Size":0},{"Type":"blob","Path":"sub/x.gguf","Size":7,"Sha256":")" +
          digest + R"("}]},"Success":true})",
      "the hub");
  ASSERT_EQ(listing.files.size(), 1u);
  EXPECT_EQ(listing.files[0].path, "sub/x.gguf");
  EXPECT_EQ(listing.files[0].sha256, digest);
}

TEST(Hub, RefusesLies) {
  const auto refused = [](const std::string& sibling) {
    return error_of(ErrorKind::kNetwork, [&] { parse_hugging_face(R"({"siblings":[)" + sibling + "]}", "the hub"); });
  };
  EXPECT_THAT(refused(R"({"rfilename":"../../.bashrc","size":1})"), HasSubstr("refused"));
  EXPECT_THAT(refused(R"({"rfilename":"/etc/x","size":1})"), HasSubstr("refused"));
  EXPECT_THAT(refused(R"({"rfilename":"a","size":-5})"), HasSubstr("size"));
  EXPECT_THAT(refused(R"({"rfilename":"a","size":1e18})"), HasSubstr("size"));
  EXPECT_THAT(refused(R"({"rfilename":"a","size":99999999999999999999})"), HasSubstr("size"));
  EXPECT_THAT(refused(R"({"rfilename":"a","lfs":{"sha256":"xyz","size":1}})"), HasSubstr("SHA-256"));
  EXPECT_THAT(refused(R"({"name":"a"})"), HasSubstr("list of files"));
  EXPECT_THAT(refused("7"), HasSubstr("list of files"));
  error_of(ErrorKind::kNetwork, [] { parse_hugging_face("<html>", "the hub"); });
  error_of(ErrorKind::kNetwork, [] { parse_modelscope(R"({"Data":[]})", "the hub"); });
  error_of(ErrorKind::kNetwork, [] { parse_modelscope(std::string(5000, '['), "the hub"); });
}

}  // namespace
}  // namespace baize::store
