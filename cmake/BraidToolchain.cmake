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
                                               -Woverloaded-virtual)
# at::parallel_for is a template: without OpenMP in the compiler's flags it runs on one thread.  GCC's
# runtime is LibTorch's own (BraidDependencies.cmake); other compilers would bring a second one.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(braid_options INTERFACE -fpch-preprocess $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
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

# braid_add_library(NAME SOURCES... LINK libraries... [WITHOUT_ATEN] [ONE_BY_ONE]): one static library for
# one folder.
# WITHOUT_ATEN: hardly a file of it includes ATen, so none gets the precompiled header.
# ONE_BY_ONE: its files have local names in common, so that BRAID_UNITY does not hold for it.
function(braid_add_library name)
  cmake_parse_arguments(ARG "WITHOUT_ATEN;ONE_BY_ONE" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  string(REPLACE "braid_" "braid::" alias ${name})
  add_library(${alias} ALIAS ${name})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} PRIVATE braid_options)
  if(NOT ARG_WITHOUT_ATEN)
    target_precompile_headers(${name} REUSE_FROM braid_precompiled)
  endif()
  if(BRAID_UNITY AND NOT ARG_ONE_BY_ONE)
    set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 5)
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

# The tests' own sources: GoogleTest and JSON are precompiled beside ATen, and what they compute themselves
# is not worth -O3. (The options must be those of the precompiled header.)
function(braid_compile_as_test name)
  target_compile_options(${name} PRIVATE -fPIC $<$<CONFIG:Release>:-O1>)
  target_precompile_headers(${name} REUSE_FROM braid_precompiled_tests)
endfunction()

# braid_add_test_program(NAME SOURCES... LINK libraries...): the executable of tests alone.
function(braid_add_test_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE braid_options braid_test_support ${ARG_LINK})
  braid_compile_as_test(${name})
endfunction()

# braid_add_test(NAME SOURCES... LINK libraries... [SLOW patterns...] [MPI patterns...] [LABEL label]): one
# GoogleTest program for one folder. Each test has one of ctest's labels: LABEL where it is given; else `mpi`
# if it starts ranks, `slow` if it takes more than a few seconds, else `fast`; patterns are GoogleTest's (Suite.*).
# Tests find their reference files under BRAID_TEST_DATA.
function(braid_add_test name)
  cmake_parse_arguments(ARG "" "LABEL" "SOURCES;LINK;SLOW;MPI" ${ARGN})
  braid_add_test_program(${name} SOURCES ${ARG_SOURCES} LINK ${ARG_LINK} GTest::gtest_main)
  if(ARG_LABEL)
    gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120 PROPERTIES TIMEOUT 300 LABELS ${ARG_LABEL})
    return()
  endif()
  list(JOIN ARG_MPI ":" mpi)
  list(JOIN ARG_SLOW ":" slow)
  set(others ${ARG_SLOW} ${ARG_MPI})
  list(JOIN others ":" others)
  set(fast "-${others}")
  if(slow STREQUAL "*")
    set(fast "")
  elseif(NOT others)
    set(fast "*")
  endif()
  # A process for each test is slow to start: `test.sh --fast` runs a program's fast tests in one.
  if(fast)
    add_test(NAME ${name}.fast COMMAND ${name} --gtest_filter=${fast} --gtest_brief=1 CONFIGURATIONS Fast)
    set_tests_properties(${name}.fast PROPERTIES TIMEOUT 300 LABELS together)
  endif()
  foreach(label fast slow mpi)
    if(${label})
      gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120 TEST_FILTER "${${label}}"
                           PROPERTIES TIMEOUT 300 LABELS ${label})
    endif()
  endforeach()
endfunction()
