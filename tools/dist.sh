#!/usr/bin/env bash
# Makes a tarball that runs on a bare Debian 12 or newer: tools/dist.sh BUILD FOLDER. Beside the stripped program it holds
# the shared libraries that the program needs (libcurl and what that needs), all but the C library's own, in lib/baize,
# where the program looks first, and their licences. The oldest system it runs on is the one it was built on.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly BUILD=$1 FOLDER=$2
readonly GLIBC='^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|anl|nsl|mvec))\.so\.[0-9]+$'
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$BUILD/CMakeCache.txt")
name=baize-$version-linux-$(uname -m)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

cmake --install "$BUILD" --prefix "$stage/$name" --strip >/dev/null
mkdir -p "$stage/$name/lib/baize" "$stage/$name/share/doc/baize"
ldd "$stage/$name/bin/baize" | awk '$2 == "=>" { print $1, $3 }' | while read -r library path; do
  [[ $library =~ $GLIBC ]] && continue
  [[ -f $path ]] || { echo "dist: $library is not found" >&2; exit 1; }
  install -m 644 "$path" "$stage/$name/lib/baize/$library"
  package=$(dpkg-query -S "$(realpath "$path")" 2>/dev/null | cut -d: -f1 | head -1) ||
    package=$(dpkg-query -S "$(realpath "$path" | sed 's|^/usr||')" 2>/dev/null | cut -d: -f1 | head -1) || true
  if [[ -n $package && -f /usr/share/doc/$package/copyright ]]; then
    install -m 644 "/usr/share/doc/$package/copyright" "$stage/$name/share/doc/baize/$package.copyright"
  fi
done
strip --strip-unneeded "$stage/$name"/lib/baize/*.so*
mkdir -p "$FOLDER"
tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner -czf "$FOLDER/$name.tar.gz" "$name"
echo "$FOLDER/$name.tar.gz: $(stat -c %s "$FOLDER/$name.tar.gz") bytes, program $(stat -c %s "$stage/$name/bin/baize") bytes"
