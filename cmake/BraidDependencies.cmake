# Finds every library and wraps LibTorch as braid::torch. LibTorch's own TorchConfig.cmake is not
# used: the PyPI wheel's insists on a whole CUDA toolkit even for a program that runs on the CPU.

if(BRAID_LIBTORCH_DIR)
  set(BRAID_TORCH_DIR ${BRAID_LIBTORCH_DIR})
else()
  if(DEFINED ENV{BRAID_PREFIX})
    set(_prefix $ENV{BRAID_PREFIX})
  elseif(DEFINED ENV{XDG_CACHE_HOME})
    set(_prefix $ENV{XDG_CACHE_HOME}/braid)
  else()
    set(_prefix $ENV{HOME}/.cache/braid)
  endif()
  set(BRAID_TORCH_DIR ${_prefix}/libtorch-2.11.0-cpu/torch)
endif()
if(NOT EXISTS ${BRAID_TORCH_DIR}/lib/libtorch_cpu.so OR NOT EXISTS ${BRAID_TORCH_DIR}/include/ATen/ATen.h)
  message(FATAL_ERROR "No LibTorch in ${BRAID_TORCH_DIR} (looked for lib/libtorch_cpu.so and include/ATen/ATen.h). "
                      "Run scripts/setup.sh, or pass -DBRAID_LIBTORCH_DIR=<folder of LibTorch 2.11 or newer>.")
endif()
file(STRINGS ${BRAID_TORCH_DIR}/include/torch/headeronly/version.h _torch_version
     REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9;]" "" _torch_version "${_torch_version}")
string(REPLACE ";" "." BRAID_TORCH_VERSION "${_torch_version}")
if(BRAID_TORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "LibTorch in ${BRAID_TORCH_DIR} is ${BRAID_TORCH_VERSION}; Braid needs 2.11 or newer.")
endif()

add_library(braid_torch INTERFACE)
add_library(braid::torch ALIAS braid_torch)
target_include_directories(braid_torch SYSTEM INTERFACE ${BRAID_TORCH_DIR}/include
                                                        ${BRAID_TORCH_DIR}/include/torch/csrc/api/include)
target_link_libraries(braid_torch INTERFACE ${BRAID_TORCH_DIR}/lib/libtorch_cpu.so ${BRAID_TORCH_DIR}/lib/libc10.so)
# The OpenMP runtime that LibTorch's threads belong to.
find_file(BRAID_GOMP NAMES libgomp.so.1 libgomp.so PATHS ${BRAID_TORCH_DIR}/lib NO_DEFAULT_PATH)
if(BRAID_GOMP)
  target_link_libraries(braid_torch INTERFACE ${BRAID_GOMP})
else()
  target_link_libraries(braid_torch INTERFACE gomp)
endif()
# The wheel's libraries look for their companions beside themselves (libcudart, libcupti, libgomp);
# at link time the linker needs the same folders to resolve them.
set(_torch_companions ${BRAID_TORCH_DIR}/../nvidia/cu13/lib)
target_link_options(braid_torch INTERFACE -Wl,-rpath-link,${BRAID_TORCH_DIR}/lib
                                          -Wl,-rpath-link,${_torch_companions}
                                          -Wl,-rpath,${BRAID_TORCH_DIR}/lib
                                          -Wl,--disable-new-dtags)

# What the plugin of cuda/ is made with, and the compiler of kernels/cuda. The program needs none of it.
set(BRAID_CUDA_STATUS off)
if(NOT BRAID_CUDA STREQUAL OFF)
  find_package(CUDAToolkit 13.0 QUIET)
endif()
if(BRAID_CUDA STREQUAL ON OR (BRAID_CUDA STREQUAL AUTO AND EXISTS ${BRAID_TORCH_DIR}/lib/libtorch_cuda.so))
  set(_nccl ${BRAID_TORCH_DIR}/../nvidia/nccl)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${_nccl}/include)
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${CUDAToolkit_LIBRARY_DIR} ${_nccl}/lib)
  if(CUDAToolkit_FOUND AND NCCL_INCLUDE_DIR AND NCCL_LIBRARY AND EXISTS ${BRAID_TORCH_DIR}/lib/libtorch_cuda.so)
    add_library(braid_torch_cuda INTERFACE)
    target_include_directories(braid_torch_cuda SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
    target_link_libraries(braid_torch_cuda INTERFACE braid_torch ${BRAID_TORCH_DIR}/lib/libc10_cuda.so CUDA::cudart
                                                     ${NCCL_LIBRARY})
    set(BRAID_CUDA_STATUS "${CUDAToolkit_VERSION}")
  elseif(BRAID_CUDA STREQUAL ON)
    message(FATAL_ERROR "BRAID_CUDA=ON needs the CUDA toolkit 13 (nvcc found: ${CUDAToolkit_FOUND}), NCCL (nccl.h: "
                        "${NCCL_INCLUDE_DIR}, library: ${NCCL_LIBRARY}) and libtorch_cuda.so in ${BRAID_TORCH_DIR}/lib. "
                        "scripts/setup.sh --cuda installs LibTorch's and NCCL's part.")
  endif()
endif()

find_package(Threads REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
add_library(braid_mpi INTERFACE)
target_include_directories(braid_mpi SYSTEM INTERFACE ${MPI_C_INCLUDE_DIRS})
target_compile_definitions(braid_mpi INTERFACE OMPI_SKIP_MPICXX)  # the C interface alone
target_link_libraries(braid_mpi INTERFACE ${MPI_C_LIBRARIES})
find_package(HDF5 REQUIRED COMPONENTS C)
add_library(braid_hdf5 INTERFACE)
target_include_directories(braid_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(braid_hdf5 INTERFACE ${HDF5_C_LIBRARIES})
find_package(ZLIB REQUIRED)
find_path(ZSTD_INCLUDE_DIR zstd.h REQUIRED)
find_library(ZSTD_LIBRARY zstd REQUIRED)
add_library(braid_zstd INTERFACE)
target_include_directories(braid_zstd SYSTEM INTERFACE ${ZSTD_INCLUDE_DIR})
target_link_libraries(braid_zstd INTERFACE ${ZSTD_LIBRARY})
find_path(PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
find_library(PCRE2_LIBRARY pcre2-8 REQUIRED)
add_library(braid_pcre2 INTERFACE)
target_include_directories(braid_pcre2 SYSTEM INTERFACE ${PCRE2_INCLUDE_DIR})
target_link_libraries(braid_pcre2 INTERFACE ${PCRE2_LIBRARY})
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
if(BRAID_BENCH)
  find_package(benchmark REQUIRED)
endif()
if(BRAID_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

# One precompiled ATen for every target: 8 s per file become 2. Nothing else: what a precompiled header
# instantiates, every file that uses it instantiates again (custom_function.h alone costs 2 s a file).
add_library(braid_precompiled OBJECT ${PROJECT_SOURCE_DIR}/cmake/precompiled.cpp)
target_link_libraries(braid_precompiled PRIVATE braid::torch braid_options)
target_precompile_headers(braid_precompiled PRIVATE <ATen/ATen.h>)

# The same for tests.
if(BRAID_TESTS)
  add_library(braid_precompiled_tests OBJECT ${PROJECT_SOURCE_DIR}/cmake/precompiled.cpp)
  target_link_libraries(braid_precompiled_tests PRIVATE braid::torch braid_options nlohmann_json::nlohmann_json
                                                        GTest::gtest)
  target_compile_options(braid_precompiled_tests PRIVATE $<$<CONFIG:Release>:-O1>)
  target_precompile_headers(braid_precompiled_tests PRIVATE <ATen/ATen.h> <gtest/gtest.h> <nlohmann/json.hpp>)
endif()
