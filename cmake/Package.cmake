# The installed package: `cmake --install build/release --prefix X` installs the tools, the headers of include/dalle/, and
# libdalle.so with a CMake package, so that find_package(dalle) defines dalle::dalle.
#
# The library is linked from the same objects as the tools and exports only what the headers declare, so programs depend
# neither on the other libraries that are linked into it nor on their versions.
include(CMakePackageConfigHelpers)
string(REGEX MATCH "^[0-9]+\\.[0-9]+" Torch_VERSION_MINOR "${Torch_VERSION}")
cmake_path(GET OPENMP_RUNTIME PARENT_PATH OPENMP_FOLDER)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/dalle)

add_library(dalle_shared SHARED $<TARGET_OBJECTS:dalle> $<TARGET_OBJECTS:dalle_core>)
set_target_properties(dalle_shared PROPERTIES
  OUTPUT_NAME dalle EXPORT_NAME dalle LINKER_LANGUAGE CXX
  INSTALL_RPATH "${DALLE_RUNTIME_PATHS}" INSTALL_RPATH_USE_LINK_PATH ON
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_link_libraries(dalle_shared PRIVATE dalle dalle_build_flags INTERFACE $<INSTALL_INTERFACE:dalle::torch>)
target_link_options(dalle_shared PRIVATE -Wl,--exclude-libs,ALL)
target_include_directories(dalle_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(dalle_shared INTERFACE cxx_std_20)

install(TARGETS dalle_shared EXPORT dalle)
install(DIRECTORY include/dalle DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT dalle NAMESPACE dalle:: FILE dalleTargets.cmake DESTINATION ${package_folder})
configure_package_config_file(cmake/dalleConfig.cmake.in ${PROJECT_BINARY_DIR}/dalleConfig.cmake
  INSTALL_DESTINATION ${package_folder} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dalleConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dalleConfig.cmake ${PROJECT_BINARY_DIR}/dalleConfigVersion.cmake
  DESTINATION ${package_folder})
