# A room is a folder of src/ that becomes one static library, la_<name>: room(weights DEPS core ops).
#   DEPS          rooms below whose headers this room's headers include: whoever depends on this room sees them, too
#   PRIVATE_DEPS  rooms below whose headers only this room's .cc files include
#   LINKS         rooms that are linked and not included: they define what the public headers declare
#   LIBS          outside libraries, which LIVEAVATAR_NEEDS (library.cmake) names too unless they are headers alone
# An #include from a room that is not declared does not compile: the compiler is shown the declared rooms' headers only
# (room_headers). Who includes whom is compared with what is declared by the test `arrows`.
function(room name)
  cmake_parse_arguments(ROOM "" "" "DEPS;PRIVATE_DEPS;LINKS;LIBS" ${ARGN})
  room_headers(${name})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(sources)
    add_library(la_${name} STATIC ${sources})
    target_link_libraries(la_${name} PRIVATE ${ROOM_LIBS})
    set_property(GLOBAL APPEND PROPERTY LIVEAVATAR_ROOMS la_${name})
    room_links(${name} la_${name} PUBLIC)
  else()
    add_library(la_${name} INTERFACE)
    room_links(${name} la_${name} INTERFACE)
  endif()
  declare_arrows(${name})
endfunction()

# The same for the room of a program: room_program(cli liveavatar PRIVATE_DEPS pipeline LIBS CLI11::CLI11).
function(room_program name program)
  cmake_parse_arguments(ROOM "" "" "DEPS;PRIVATE_DEPS;LINKS;LIBS" ${ARGN})
  room_headers(${name})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  add_executable(${program} ${sources})
  target_link_libraries(${program} PRIVATE ${ROOM_LIBS})
  room_links(${name} ${program} PRIVATE)
  declare_arrows(${name})
endfunction()

# An include directory that holds this room's headers and no others: links in the build tree. Sets ROOM_ROOT.
function(room_headers name)
  file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR}/src ${CMAKE_CURRENT_SOURCE_DIR})
  set(root ${PROJECT_BINARY_DIR}/include_roots/${name})
  file(REMOVE_RECURSE ${root})
  file(MAKE_DIRECTORY ${root}/${path})
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.h ${CMAKE_CURRENT_SOURCE_DIR}/*.in[cl])
  foreach(header ${headers})
    get_filename_component(file ${header} NAME)
    file(CREATE_LINK ${header} ${root}/${path}/${file} SYMBOLIC)
  endforeach()
  set(ROOM_ROOT ${root} PARENT_SCOPE)
endfunction()

# To be called by room() alone, whose variables it reads. scope: who sees the headers of the room and of its DEPS.
function(room_links name target scope)
  set(public_headers ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  target_include_directories(${target} ${scope} ${ROOM_ROOT} ${public_headers})
  list(TRANSFORM ROOM_DEPS PREPEND la_)
  target_link_libraries(${target} ${scope} ${ROOM_DEPS})
  if(ROOM_PRIVATE_DEPS)
    list(TRANSFORM ROOM_PRIVATE_DEPS PREPEND la_)
    target_link_libraries(${target} PRIVATE ${ROOM_PRIVATE_DEPS})
  endif()
  foreach(linked ${ROOM_LINKS})
    target_link_libraries(${target} INTERFACE $<LINK_ONLY:la_${linked}>)
  endforeach()
endfunction()

# Keeps what is declared for write_arrows().
function(declare_arrows name)
  file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR}/src ${CMAKE_CURRENT_SOURCE_DIR})
  set(lines "room ${name} ${path}\n")
  foreach(kind DEPS PRIVATE_DEPS LINKS)
    foreach(dep ${ROOM_${kind}})
      string(APPEND lines "${kind} ${name} ${dep}\n")
    endforeach()
  endforeach()
  set_property(GLOBAL APPEND_STRING PROPERTY LIVEAVATAR_ARROWS "${lines}")
endfunction()

# What all rooms declare, as tests/arrows reads it: "room NAME FOLDER", then "DEPS|PRIVATE_DEPS|LINKS FROM TO".
function(write_arrows file)
  get_property(lines GLOBAL PROPERTY LIVEAVATAR_ARROWS)
  file(WRITE ${file} "${lines}")
endfunction()

# The tests of a room: every *_test.cc of the folder in one program and one ctest entry.
function(room_test name)
  cmake_parse_arguments(ROOM "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  add_executable(${name}_test ${sources})
  list(TRANSFORM ROOM_DEPS PREPEND la_)
  target_link_libraries(${name}_test PRIVATE ${ROOM_DEPS} ${ROOM_LIBS} GTest::gtest_main)
  target_compile_definitions(${name}_test PRIVATE LA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name}_test)
endfunction()
