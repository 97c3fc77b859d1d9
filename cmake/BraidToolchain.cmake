# Compiler cache, linker, warnings and the two functions every folder uses.

find_program(BRAID_CCACHE ccache)
if(BRAID_CCACHE)
  # ccache only accepts precompiled headers when told that their time stamps do not matter.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${BRAID_CCACHE})
endif()

find_program(BRAID_MOLD mold)
if(BRAID_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(braid_options INTERFACE)
target_compile_options(braid_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
                                               -Woverloaded-virtual -fpch-preprocess)
# at::parallel_for is a template: without OpenMP in the compiler's flags it runs on one thread.  GCC's
# runtime is LibTorch's own (BraidDependencies.cmake); other compilers would bring a second one.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(braid_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
endif()
if(BRAID_WERROR)
  target_compile_options(braid_options INTERFACE -Werror)
endif()
if(BRAID_SANITIZE)
  # vptr checks need RTTI of LibTorch's classes that its libraries do not export.
  target_compile_options(braid_options INTERFACE -fsanitize=${BRAID_SANITIZE} -fno-sanitize=vptr
                                                 -fno-omit-frame-pointer)
  target_link_options(braid_options INTERFACE -fsanitize=${BRAID_SANITIZE})
endif()
target_include_directories(braid_options INTERFACE ${PROJECT_SOURCE_DIR})

# braid_add_library(NAME SOURCES... LINK libraries... [WITHOUT_ATEN]): one static library for one folder.
# WITHOUT_ATEN: hardly a file of it includes ATen, so none gets the precompiled header.
function(braid_add_library name)
  cmake_parse_arguments(ARG "WITHOUT_ATEN" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  string(REPLACE "braid_" "braid::" alias ${name})
  add_library(${alias} ALIAS ${name})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} PRIVATE braid_options)
  if(NOT ARG_WITHOUT_ATEN)
    target_precompile_headers(${name} REUSE_FROM braid_precompiled)
  endif()
endfunction()

# braid_add_program(NAME SOURCES... LINK libraries...): an executable.
function(braid_add_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE braid_options ${ARG_LINK})
  # CMake compiles executables with -fPIE; the precompiled header was made with -fPIC and must match.
  target_compile_options(${name} PRIVATE -fPIC)
  target_precompile_headers(${name} REUSE_FROM braid_precompiled)
endfunction()

# braid_add_test(NAME SOURCES... LINK libraries...): one GoogleTest program for one folder.
# Tests find their reference files under BRAID_TEST_DATA.
function(braid_add_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  braid_add_program(${name} SOURCES ${ARG_SOURCES} LINK braid_test_support ${ARG_LINK} GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 300)
endfunction()
