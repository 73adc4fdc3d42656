# SPDX-License-Identifier: MIT
# How every C file of the project is compiled. safering_compile carries warnings, sanitizers and the
# language; safering_private adds what only the library and the tests of its inside may see.
include(CheckIncludeFile)

add_library(safering_compile INTERFACE)
# Empty, so that a file which must also compile elsewhere may define it again.
target_compile_definitions(safering_compile INTERFACE _GNU_SOURCE=)
target_compile_options(safering_compile INTERFACE
    -Wall
    -Wextra
    -Wpedantic
    -Wshadow
    -Wstrict-prototypes
    -Wmissing-prototypes
    -Wold-style-definition
    -Wpointer-arith
    -Wwrite-strings
    -Wformat=2
    -Wimplicit-fallthrough
    -Wundef
    -Wvla)
if(SAFERING_WERROR)
    target_compile_options(safering_compile INTERFACE -Werror)
endif()

if(SAFERING_SANITIZE)
    # -fno-sanitize-recover: an undefined shift must fail the test that made it, not scroll by.
    set(sanitize_options -fsanitize=${SAFERING_SANITIZE} -fno-sanitize-recover=all
        -fno-omit-frame-pointer)
    target_compile_options(safering_compile INTERFACE ${sanitize_options})
    if(SAFERING_SANITIZE MATCHES "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
        # gcc warns that ThreadSanitizer does not know fences. Ours order atomics alone (wake-ups, and
        # messages that may be overwritten): no plain data is safe because of one.
        target_compile_options(safering_compile INTERFACE -Wno-tsan)
    endif()
    target_link_options(safering_compile INTERFACE ${sanitize_options})
endif()
if(SAFERING_FUZZ)
    # So that libFuzzer sees which way an input takes through the library.
    target_compile_options(safering_compile INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(SAFERING_COVERAGE)
    # Atomic counters, because tests fork and have threads.
    target_compile_options(safering_compile INTERFACE --coverage -fprofile-update=atomic)
    target_link_options(safering_compile INTERFACE --coverage)
endif()

add_library(safering_private INTERFACE)
target_link_libraries(safering_private INTERFACE safering_compile PkgConfig::LIBURING)
target_include_directories(safering_private INTERFACE
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
if(SAFERING_CHECK_SLOW)
    target_compile_definitions(safering_private INTERFACE SAFERING_CHECK_SLOW=1)
endif()
if(NOT SAFERING_GENERATION_BITS EQUAL 0)
    target_compile_definitions(safering_private INTERFACE
        SRI_GENERATION_BITS=${SAFERING_GENERATION_BITS})
endif()
# Optional: without the header valgrind would report bytes that the kernel wrote as undefined.
check_include_file(valgrind/memcheck.h SAFERING_HAVE_VALGRIND)
if(SAFERING_HAVE_VALGRIND)
    target_compile_definitions(safering_private INTERFACE SAFERING_HAVE_VALGRIND=1)
endif()
