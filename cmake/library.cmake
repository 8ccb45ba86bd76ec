# The library for other programs, liveavatar::liveavatar: one archive, or one shared object, of the objects of all modules.
# Our own program links the modules instead, so that nothing about it depends on the kind of library.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# What the modules need from outside, by pkg-config's names; the link of the tests in tests/library says what is missing.
set(LIVEAVATAR_NEEDS libavformat libavcodec libavutil libswscale libswresample soxr libheif libwebpdemux libwebp
                     sentencepiece libutf8proc)

# BUILD_SHARED_LIBS says which kind is installed. The tests try both: the objects are the same, and the other kind is
# installed by its component only.
function(liveavatar_library)
  pkg_check_modules(liveavatar_needs REQUIRED IMPORTED_TARGET ${LIVEAVATAR_NEEDS})
  set(kind static)
  set(other shared)
  if(BUILD_SHARED_LIBS)
    set(kind shared)
    set(other static)
  endif()
  add_library_of_modules(${kind})
  install_library(${kind} COMPONENT liveavatar_${kind})
  add_library(liveavatar::liveavatar ALIAS liveavatar_${kind})
  if(LIVEAVATAR_TESTS)
    add_library_of_modules(${other})
    install_library(${other} COMPONENT liveavatar_${other} EXCLUDE_FROM_ALL)
  endif()
endfunction()

# The target liveavatar_static or liveavatar_shared.
function(add_library_of_modules kind)
  get_property(modules GLOBAL PROPERTY LIVEAVATAR_MODULES)
  list(TRANSFORM modules REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE objects)
  string(TOUPPER ${kind} KIND)
  set(library liveavatar_${kind})
  add_library(${library} ${KIND} ${objects})
  # Before 1.0 a minor version may change the binary interface.
  set(abi ${PROJECT_VERSION_MAJOR})
  if(abi EQUAL 0)
    set(abi 0.${PROJECT_VERSION_MINOR})
  endif()
  set_target_properties(${library} PROPERTIES OUTPUT_NAME liveavatar EXPORT_NAME liveavatar LINKER_LANGUAGE CXX
                                              VERSION ${PROJECT_VERSION} SOVERSION ${abi})
  target_include_directories(${library} INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${library} INTERFACE cxx_std_20)  # of the headers
  target_link_libraries(${library} PRIVATE Threads::Threads PkgConfig::liveavatar_needs)
  if(LIVEAVATAR_HAS_CUDA)
    target_link_libraries(${library} PRIVATE CUDA::cudart_static)
  endif()
  if(kind STREQUAL "shared" AND NOT LIVEAVATAR_SANITIZE)
    target_link_options(${library} PRIVATE -Wl,--no-undefined)
  endif()
endfunction()

# Library, headers, CMake package and liveavatar.pc; what follows kind goes to every install().
function(install_library kind)
  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/liveavatar)
  set(made ${PROJECT_BINARY_DIR}/package/${kind})
  install(TARGETS liveavatar_${kind} EXPORT liveavatar_${kind}_targets ${ARGN})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/liveavatar ${PROJECT_BINARY_DIR}/include/liveavatar
          DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} ${ARGN} FILES_MATCHING PATTERN *.h)
  # Different names: CMake makes the files of both kinds in one folder.
  install(EXPORT liveavatar_${kind}_targets NAMESPACE liveavatar:: FILE liveavatarTargets-${kind}.cmake
          DESTINATION ${package_dir} ${ARGN})

  set(compatible SameMajorVersion)
  if(PROJECT_VERSION_MAJOR EQUAL 0)
    set(compatible SameMinorVersion)
  endif()
  list(JOIN LIVEAVATAR_NEEDS " " needs)
  write_basic_package_version_file(${made}/liveavatarConfigVersion.cmake COMPATIBILITY ${compatible})
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/liveavatarConfig.cmake.in ${made}/liveavatarConfig.cmake
                                INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
  install(FILES ${made}/liveavatarConfig.cmake ${made}/liveavatarConfigVersion.cmake DESTINATION ${package_dir} ${ARGN})

  # Relative to the file itself, so that `cmake --install --prefix` may put it anywhere. An archive does not carry what
  # it needs, so a plain `pkg-config --libs` must.
  set(pc_dir ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
  file(RELATIVE_PATH lib_from_pc ${pc_dir} ${CMAKE_INSTALL_FULL_LIBDIR})
  file(RELATIVE_PATH include_from_pc ${pc_dir} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
  set(pc_requires "")
  set(pc_libs "")
  if(kind STREQUAL "static")
    list(JOIN LIVEAVATAR_NEEDS ", " pc_requires)
    set(pc_libs " -lstdc++ -lm -pthread")
    if(LIVEAVATAR_HAS_CUDA)
      string(APPEND pc_libs " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt")
    endif()
  endif()
  configure_file(${PROJECT_SOURCE_DIR}/cmake/liveavatar.pc.in ${made}/liveavatar.pc @ONLY)
  install(FILES ${made}/liveavatar.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig ${ARGN})
endfunction()
