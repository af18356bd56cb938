# Libraries from outside, each as one target. Debian ships fmt and spdlog only as shared objects; their headers can also
# be compiled into the program (cmake/libs/*.cc), which then runs where those packages are missing.
find_package(Threads REQUIRED)
find_path(BAIZE_FMT_INCLUDE fmt/format-inl.h REQUIRED)
find_path(BAIZE_SPDLOG_INCLUDE spdlog/spdlog-inl.h REQUIRED)
find_path(BAIZE_JSON_INCLUDE nlohmann/json.hpp REQUIRED)

add_library(baize_libs STATIC cmake/libs/fmt.cc cmake/libs/spdlog.cc)
target_include_directories(baize_libs SYSTEM PUBLIC ${BAIZE_FMT_INCLUDE} ${BAIZE_SPDLOG_INCLUDE} ${BAIZE_JSON_INCLUDE})
target_compile_definitions(baize_libs PUBLIC SPDLOG_COMPILED_LIB SPDLOG_FMT_EXTERNAL)
target_compile_options(baize_libs PRIVATE -w)
target_link_libraries(baize_libs PUBLIC Threads::Threads)

if(NOT BAIZE_KERNELS_ONLY)
  find_package(CLI11 REQUIRED)
  find_package(CURL REQUIRED)
  find_package(OpenSSL REQUIRED COMPONENTS Crypto SSL)
  find_path(BAIZE_BOOST_INCLUDE boost/beast/http.hpp REQUIRED)
  add_library(baize_http INTERFACE)  # Boost.Asio and Beast, headers only
  target_include_directories(baize_http SYSTEM INTERFACE ${BAIZE_BOOST_INCLUDE})
  target_compile_definitions(baize_http INTERFACE BOOST_ERROR_CODE_HEADER_ONLY
    BOOST_ASIO_HAS_CO_AWAIT=1 BOOST_ASIO_HAS_STD_COROUTINE=1)  # which Boost 1.74 does not see in Clang
  target_link_libraries(baize_http INTERFACE OpenSSL::SSL OpenSSL::Crypto Threads::Threads)
  find_path(BAIZE_EDIT_INCLUDE histedit.h REQUIRED)
  find_library(BAIZE_EDIT_LIBRARY edit REQUIRED)
  add_library(baize_edit INTERFACE)  # line editing of the terminal chat
  target_include_directories(baize_edit SYSTEM INTERFACE ${BAIZE_EDIT_INCLUDE})
  target_link_libraries(baize_edit INTERFACE ${BAIZE_EDIT_LIBRARY})

  # The text crates of rust/, built by cargo into one static library behind rust/include/baize_text.h.
  add_library(baize_rust INTERFACE)
  if(EXISTS ${CMAKE_SOURCE_DIR}/rust/Cargo.toml)
    set(BAIZE_RUST_DIR ${CMAKE_BINARY_DIR}/rust CACHE PATH "cargo's target folder; builds of one tree may share it")
    set(rust_library ${BAIZE_RUST_DIR}/release/libbaize_text.a)
    file(GLOB_RECURSE rust_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/rust/src/*.rs)
    add_custom_command(OUTPUT ${rust_library}
      COMMAND cargo build --release --locked --quiet --manifest-path ${CMAKE_SOURCE_DIR}/rust/Cargo.toml
              --target-dir ${BAIZE_RUST_DIR}
      COMMAND ${CMAKE_COMMAND} -E touch ${rust_library}
      DEPENDS ${rust_sources} ${CMAKE_SOURCE_DIR}/rust/Cargo.toml ${CMAKE_SOURCE_DIR}/rust/Cargo.lock
      COMMENT "Building the text crates with cargo" VERBATIM USES_TERMINAL)
    add_custom_target(baize_rust_build DEPENDS ${rust_library})
    add_dependencies(baize_rust baize_rust_build)
    target_include_directories(baize_rust INTERFACE ${CMAKE_SOURCE_DIR}/rust/include)
    target_link_libraries(baize_rust INTERFACE ${rust_library} ${CMAKE_DL_LIBS} m)
  endif()
endif()
