# baize_chat_page(TARGET): builds the chat page of ui/ when its sources changed, and embeds it into TARGET as the functions
# of src/serve/chat_page.h. With -DBAIZE_UI=OFF, for machines without Node.js, a sentence takes its place.
option(BAIZE_UI "Build the chat page (needs Node.js and npm) into the program" ON)

function(baize_chat_page target)
  if(NOT TARGET ${target})
    return()
  endif()
  set(made ${CMAKE_BINARY_DIR}/embedded/chat_page.cc)
  if(NOT BAIZE_UI)
    configure_file(${CMAKE_SOURCE_DIR}/cmake/no_chat_page.cc.in ${made} COPYONLY)
  else()
    set(ui ${CMAKE_SOURCE_DIR}/ui)
    set(page ${CMAKE_BINARY_DIR}/ui/index.html)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${ui}/src/*)
    file(GLOB settings CONFIGURE_DEPENDS ${ui}/*.ts ${ui}/*.json ${ui}/index.html ${ui}/.npmrc)
    configure_file(${CMAKE_SOURCE_DIR}/cmake/chat_page.cc.in ${made} @ONLY)
    add_custom_command(OUTPUT ${page} ${page}.gz
      COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/build_ui.py ${CMAKE_BINARY_DIR}/ui
      DEPENDS ${sources} ${settings} ${CMAKE_SOURCE_DIR}/tools/build_ui.py
      COMMENT "Building the chat page" VERBATIM)
    set_source_files_properties(${made} PROPERTIES OBJECT_DEPENDS "${page};${page}.gz")
  endif()
  target_sources(${target} PRIVATE ${made})
endfunction()
