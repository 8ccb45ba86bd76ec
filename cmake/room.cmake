# A room is a folder of src/ that becomes one static library: room(weights DEPS core ops).
# Its sources are the .cc files of the folder; DEPS are rooms below it (arrows only point down), LIBS are outside libraries,
# which LIVEAVATAR_NEEDS (library.cmake) names too unless they are headers alone.
function(room name)
  cmake_parse_arguments(ROOM "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  add_library(la_${name} STATIC ${sources})
  target_include_directories(la_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include
                             ${PROJECT_BINARY_DIR}/include)
  list(TRANSFORM ROOM_DEPS PREPEND la_)
  target_link_libraries(la_${name} PUBLIC ${ROOM_DEPS} PRIVATE ${ROOM_LIBS})
  set_property(GLOBAL APPEND PROPERTY LIVEAVATAR_ROOMS la_${name})
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
