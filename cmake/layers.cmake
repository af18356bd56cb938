# baize_layer(NAME FOLDER DEPENDENCY...): library baize_NAME of every source file below src/FOLDER. It is linked whole, so
# that families and kernels that register themselves are kept. A folder that is still empty gives an empty library.
function(baize_layer name folder)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${folder}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/isa/|/main\\.cc$")
  add_library(baize_${name} INTERFACE)
  if(sources)
    add_library(baize_${name}_code STATIC ${sources})
    target_include_directories(baize_${name}_code PUBLIC ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(baize_${name}_code PUBLIC ${ARGN})
    target_link_libraries(baize_${name} INTERFACE "$<LINK_LIBRARY:WHOLE_ARCHIVE,baize_${name}_code>")
  endif()
  target_include_directories(baize_${name} INTERFACE ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(baize_${name} INTERFACE ${ARGN})
endfunction()

function(baize_compile_options name)
  if(TARGET baize_${name}_code)
    target_compile_options(baize_${name}_code PRIVATE ${ARGN})
  endif()
endfunction()

# baize_isa_variant(LAYER ISA FLAG...): compiles the layer's isa/*.cc once more with these flags and -DBAIZE_ISA=ISA into
# the layer's library. The variant's objects are joined into one in which every symbol outside the namespace ISA becomes
# local: otherwise the linker could take, say, an AVX-512 copy of a std::vector member for the whole program.
function(baize_isa_variant layer isa)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/${layer}/isa/*.cc)
  if(NOT sources OR NOT TARGET baize_${layer}_code)
    return()
  endif()
  set(name baize_${layer}_${isa})
  add_library(${name} OBJECT ${sources})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE baize_ops)
  target_compile_options(${name} PRIVATE ${ARGN})
  target_compile_definitions(${name} PRIVATE BAIZE_ISA=${isa})
  if(BAIZE_SANITIZE STREQUAL "address" AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    # Clang marks by a symbol that a program's globals are registered; made local, it lets them register twice.
    target_compile_options(${name} PRIVATE "SHELL:-mllvm -asan-globals=0")
  endif()
  string(LENGTH ${isa} length)
  set(joined ${CMAKE_CURRENT_BINARY_DIR}/${name}.o)
  add_custom_command(OUTPUT ${joined}
    COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${joined} $<TARGET_OBJECTS:${name}>
    COMMAND ${CMAKE_OBJCOPY} --wildcard "--keep-global-symbol=*${length}${isa}*" ${joined}
    DEPENDS ${name} $<TARGET_OBJECTS:${name}> COMMAND_EXPAND_LISTS VERBATIM)
  target_sources(baize_${layer}_code PRIVATE ${joined})
  set_source_files_properties(${joined} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
endfunction()

# baize_program(NAME LAYER): the executable of the layer's main.cc, at the top of the build folder. Its DT_RPATH (which, unlike
# RUNPATH, also serves the libraries' own dependencies) finds the libraries that `make dist` puts beside it.
function(baize_program name layer)
  set(main ${CMAKE_SOURCE_DIR}/src/${layer}/main.cc)
  if(EXISTS ${main})
    add_executable(${name} ${main})
    target_link_libraries(${name} PRIVATE baize_${layer})
    target_link_options(${name} PRIVATE -Wl,--disable-new-dtags -Wl,--gc-sections)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
      BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN/../lib/baize")
    install(TARGETS ${name} RUNTIME DESTINATION bin)
  endif()
endfunction()

# baize_precompiled_headers(FIRST TARGET...): what parses slowest and stands in nearly every source (cmake/pch.h) is parsed once
# for all of these targets, whose compile options are the same. Sources still include what they use.
function(baize_precompiled_headers first)
  target_precompile_headers(${first} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch.h)
  foreach(target ${ARGN})
    target_precompile_headers(${target} REUSE_FROM ${first})
  endforeach()
  foreach(target ${first} ${ARGN})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
      target_compile_options(${target} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")  # for ccache
    elseif(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
      # GCC 12 forgets of a precompiled header that it is a library's, and its optimiser warns of what it finds there.
      target_compile_options(${target} PRIVATE -fpch-preprocess -Wno-array-bounds -Wno-stringop-overflow)
    else()
      target_compile_options(${target} PRIVATE -fpch-preprocess)  # for ccache
    endif()
  endforeach()
endfunction()
