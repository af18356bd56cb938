# baize_embed(TARGET FILE NAMESPACE SYMBOL): compiles a text file into TARGET as `extern const char* const SYMBOL`.
function(baize_embed target file namespace symbol)
  if(TARGET ${target})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${file})
    file(READ ${CMAKE_SOURCE_DIR}/${file} text)
    set(made ${CMAKE_BINARY_DIR}/embedded/${symbol}.cc)
    file(CONFIGURE OUTPUT ${made} @ONLY CONTENT
      "// Made from @file@.\nnamespace @namespace@ {\nextern const char* const @symbol@;\nconst char* const @symbol@ = R\"embed(@text@)embed\";\n}\n")
    target_sources(${target} PRIVATE ${made})
  endif()
endfunction()
