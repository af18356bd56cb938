// Store: the models on this machine. Contents lie under their SHA-256 in blobs/, one manifest a model in manifests/,
// and models/ holds a folder of links a model, which loaders open. Several processes may use one store at once. A Store
// object is immutable; its methods work on the disk and may be called from any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/blobs.h"
#include "store/fetch.h"
#include "store/manifest.h"
#include "store/progress.h"

namespace baize::store {

struct PullRequest {
  std::string source;       // an alias of the catalogue, or what parse_source understands
  std::string name = {};    // name in the store; empty: the alias's, or derived from the source
  std::string sha256 = {};  // expected digest of a source of one file; empty: unknown
  RetryPolicy retry = {};
  HttpLimits limits = {};
};

struct RemoveResult {
  std::vector<std::string> names;  // what was removed, by full name
  int64_t freed = 0;               // bytes of disk
};

class Store {
 public:
  /// A store at `root`, which need not exist yet.
  explicit Store(fs::path root);

  /// $BAIZE_HOME, else $XDG_CACHE_HOME/baize, else ~/.cache/baize. Throws Error(kInvalidArgument) without any.
  static fs::path default_root();

  const fs::path& root() const { return layout_.root; }

  /// All models, by name. A manifest that cannot be read is skipped with a warning.
  std::vector<Manifest> list() const;

  /// True when `name` (a name, alias, or the source it was pulled from) is in the store; fills `manifest` when given.
  bool find(std::string_view name, Manifest* manifest = nullptr) const;

  /// Path for the loaders: the GGUF file (the first one of a split model) or the model's folder. `name` as in find().
  /// Checks that every file is there with its recorded size; contents are not read. Throws Error(kNotFound) with the
  /// closest names and what to do, Error(kCorrupt) when a file is missing or has another size.
  std::string resolve(std::string_view name) const;

  /// Fetches a model, or what is missing or changed of it, and records it under its name; either wholly or, after an
  /// Error, not at all (what arrived is kept for the next try). Throws Error of every kind but kCorrupt.
  Manifest pull(const PullRequest& request, Progress& progress) const;

  /// Removes models (all or, when a name is unknown, none), then the contents no other model uses.
  RemoveResult remove(std::span<const std::string> names) const;

  /// Removes unfinished downloads and contents that no model uses; returns the bytes freed.
  /// Throws Error(kResource) while another process is pulling.
  int64_t remove_unused() const;

 private:
  friend class Pull;

  fs::path manifest_path(std::string_view name) const;
  fs::path links_path(const Manifest& manifest) const;
  void make_links(const Manifest& manifest) const;
  bool links_fine(const Manifest& manifest) const;
  int64_t remove_contents(const std::vector<ModelFile>& files) const;
  void publish(const Manifest& manifest) const;
  void check_name_is_free(const Manifest& manifest) const;

  Layout layout_;
};

/// What a user gives as MODEL: a GGUF file, a folder (of which a lone GGUF inside is meant when it has no config.json),
/// or a name, alias or source in the store. Returns the path to load. Throws Error(kNotFound) saying how to get the
/// model.
std::string find_model(const Store& store, std::string_view model);

}  // namespace baize::store
