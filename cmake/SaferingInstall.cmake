# SPDX-License-Identifier: MIT
# What `cmake --install` puts where: libraries, headers, pkg-config files and the CMake package.
include(CMakePackageConfigHelpers)

install(TARGETS safering safering_worker EXPORT safering-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS safering_static safering_worker_static EXPORT safering-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS safering-launcher
        RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/safering)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/safering
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")

# pkg-config. The prefix is relative to the file, so an installed tree may be moved as a whole.
set(pc_dir ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH pc_prefix ${pc_dir} ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH pc_libdir ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH pc_includedir ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
foreach(pc IN ITEMS safering safering-worker)
    configure_file(${PROJECT_SOURCE_DIR}/cmake/${pc}.pc.in ${PROJECT_BINARY_DIR}/${pc}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${pc}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

# CMake package
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/safering)
install(EXPORT safering-targets NAMESPACE safering:: DESTINATION ${package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/safering-config.cmake.in
                              ${PROJECT_BINARY_DIR}/safering-config.cmake
                              INSTALL_DESTINATION ${package_dir}
                              NO_SET_AND_CHECK_MACRO)
# 0.x: a minor version may break the ABI, so only the same one is compatible.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/safering-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/safering-config.cmake
              ${PROJECT_BINARY_DIR}/safering-config-version.cmake
        DESTINATION ${package_dir})
