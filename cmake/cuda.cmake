# Kernels for NVIDIA cards. They are compiled where a toolkit is; the program runs without a card and without CUDA either way.
set(LIVEAVATAR_CUDA AUTO CACHE STRING "Kernels for NVIDIA cards: AUTO where there is nvcc, ON or OFF")
set_property(CACHE LIVEAVATAR_CUDA PROPERTY STRINGS AUTO ON OFF)
# RTX 30, A100; RTX 40, L4; H100; B200; RTX 50. And for cards to come.
set(LIVEAVATAR_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120 CACHE STRING "As CMAKE_CUDA_ARCHITECTURES")
# One rounding everywhere, as for C++. Also of the test that compiles the kernels without a build for cards.
set(LIVEAVATAR_NVCC_FLAGS -Xcompiler=-Wall,-Wextra -fmad=false)

set(LIVEAVATAR_HAS_CUDA OFF)
set(least_cuda 12.8)  # knows sm_100 and sm_120
if(LIVEAVATAR_CUDA STREQUAL "OFF" OR LIVEAVATAR_SANITIZE)
  return()  # sanitizers do not know nvcc
endif()
# For a project that asks for CMake 3.25, that version's module wants a library (nvToolsExt) which CUDA 13 has no more.
set(asked_version ${CMAKE_MINIMUM_REQUIRED_VERSION})
set(CMAKE_MINIMUM_REQUIRED_VERSION 3.24)
find_package(CUDAToolkit ${least_cuda} QUIET)
set(CMAKE_MINIMUM_REQUIRED_VERSION ${asked_version})
if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE)
  message(STATUS "Kernels for NVIDIA cards: compiled by nvcc ${CUDAToolkit_VERSION}")
  set(LIVEAVATAR_HAS_CUDA ON)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  set(CMAKE_CUDA_ARCHITECTURES ${LIVEAVATAR_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
elseif(LIVEAVATAR_CUDA STREQUAL "ON")
  message(FATAL_ERROR "LIVEAVATAR_CUDA is ON, but there is no CUDA toolkit ${least_cuda} or later")
else()
  message(STATUS "Kernels for NVIDIA cards: none, there is no CUDA toolkit ${least_cuda} or later")
endif()
