# A module is a folder of src/ that becomes one static library, la_<name>: module(weights DEPS core ops).
#   DEPS          modules below whose headers this module's headers include: whoever depends on this module sees them, too
#   PRIVATE_DEPS  modules below whose headers only this module's .cc files include
#   LINKS         modules that are linked and not included: they define what the public headers declare
#   LIBS          outside libraries, which LIVEAVATAR_NEEDS (library.cmake) names too unless they are headers alone
#   SOURCES       instead of every .cc and .cu of the folder
#   TEST_ONLY     not in the installed library, and built only where a test needs it
# An #include from a module that is not declared does not compile: the compiler is shown the declared modules' headers only
# (module_headers). Who includes whom is compared with what is declared by the test `arrows`.
function(module name)
  cmake_parse_arguments(MODULE "TEST_ONLY" "" "DEPS;PRIVATE_DEPS;LINKS;LIBS;SOURCES" ${ARGN})
  module_headers(${name})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc ${CMAKE_CURRENT_SOURCE_DIR}/*.cu)
  if(MODULE_SOURCES)
    set(sources ${MODULE_SOURCES})
  endif()
  if(sources)
    add_library(la_${name} STATIC ${sources})
    target_link_libraries(la_${name} PRIVATE ${MODULE_LIBS})
    if(MODULE_TEST_ONLY)
      set_target_properties(la_${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    else()
      set_property(GLOBAL APPEND PROPERTY LIVEAVATAR_MODULES la_${name})
    endif()
    module_links(${name} la_${name} PUBLIC)
  else()
    add_library(la_${name} INTERFACE)
    module_links(${name} la_${name} INTERFACE)
  endif()
  declare_arrows(${name})
endfunction()

# The same for the module of a program: module_program(cli liveavatar PRIVATE_DEPS pipeline LIBS CLI11::CLI11).
function(module_program name program)
  cmake_parse_arguments(MODULE "" "" "DEPS;PRIVATE_DEPS;LINKS;LIBS" ${ARGN})
  module_headers(${name})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  add_executable(${program} ${sources})
  target_link_libraries(${program} PRIVATE ${MODULE_LIBS})
  module_links(${name} ${program} PRIVATE)
  declare_arrows(${name})
endfunction()

# The same for a plugin, lib/liveavatar/<file>.so, which the program loads when it needs it. Where it is not ENABLED its
# arrows are declared and nothing is built.
function(module_plugin name file)
  cmake_parse_arguments(MODULE "" "ENABLED" "DEPS;PRIVATE_DEPS;LINKS;LIBS" ${ARGN})
  declare_arrows(${name})
  if(NOT MODULE_ENABLED)
    return()
  endif()
  module_headers(${name})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(plugin la_plugin_${file})
  add_library(${plugin} MODULE ${sources})
  set_target_properties(${plugin} PROPERTIES PREFIX "" OUTPUT_NAME ${file}
                                             LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/liveavatar)
  target_link_libraries(${plugin} PRIVATE ${MODULE_LIBS})
  module_links(${name} ${plugin} PRIVATE)
  if(NOT LIVEAVATAR_SANITIZE)
    target_link_options(${plugin} PRIVATE -Wl,--no-undefined)
  endif()
  install(TARGETS ${plugin} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/liveavatar)
endfunction()

# An include directory that holds this module's headers and no others: links in the build tree. Sets MODULE_ROOT.
function(module_headers name)
  file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR}/src ${CMAKE_CURRENT_SOURCE_DIR})
  set(root ${PROJECT_BINARY_DIR}/include_roots/${name})
  file(REMOVE_RECURSE ${root})
  file(MAKE_DIRECTORY ${root}/${path})
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.h ${CMAKE_CURRENT_SOURCE_DIR}/*.cuh
       ${CMAKE_CURRENT_SOURCE_DIR}/*.in[cl])
  foreach(header ${headers})
    get_filename_component(file ${header} NAME)
    file(CREATE_LINK ${header} ${root}/${path}/${file} SYMBOLIC)
  endforeach()
  set(MODULE_ROOT ${root} PARENT_SCOPE)
endfunction()

# To be called by module() alone, whose variables it reads. scope: who sees the headers of the module and of its DEPS.
function(module_links name target scope)
  set(public_headers ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  target_include_directories(${target} ${scope} ${MODULE_ROOT} ${public_headers})
  list(TRANSFORM MODULE_DEPS PREPEND la_)
  target_link_libraries(${target} ${scope} ${MODULE_DEPS})
  if(MODULE_PRIVATE_DEPS)
    list(TRANSFORM MODULE_PRIVATE_DEPS PREPEND la_)
    target_link_libraries(${target} PRIVATE ${MODULE_PRIVATE_DEPS})
  endif()
  foreach(linked ${MODULE_LINKS})
    target_link_libraries(${target} INTERFACE $<LINK_ONLY:la_${linked}>)
  endforeach()
endfunction()

# Keeps what is declared for write_arrows().
function(declare_arrows name)
  file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR}/src ${CMAKE_CURRENT_SOURCE_DIR})
  set(lines "module ${name} ${path}\n")
  foreach(kind DEPS PRIVATE_DEPS LINKS)
    foreach(dep ${MODULE_${kind}})
      string(APPEND lines "${kind} ${name} ${dep}\n")
    endforeach()
  endforeach()
  set_property(GLOBAL APPEND_STRING PROPERTY LIVEAVATAR_ARROWS "${lines}")
endfunction()

# What all modules declare, as tests/arrows reads it: "module NAME FOLDER", then "DEPS|PRIVATE_DEPS|LINKS FROM TO".
function(write_arrows file)
  get_property(lines GLOBAL PROPERTY LIVEAVATAR_ARROWS)
  file(WRITE ${file} "${lines}")
endfunction()

# The tests of a module: every *_test.cc of the folder in one program and one ctest entry.
function(module_test name)
  cmake_parse_arguments(MODULE "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  add_executable(${name}_test ${sources})
  list(TRANSFORM MODULE_DEPS PREPEND la_)
  target_link_libraries(${name}_test PRIVATE ${MODULE_DEPS} ${MODULE_LIBS} GTest::gtest_main)
  target_compile_definitions(${name}_test PRIVATE LA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name}_test)
endfunction()
