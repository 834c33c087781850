# Defines the target `sentencepiece_static` from the sources that scripts/setup.sh downloads to third_party/.
#
# The distribution's shared library exports FLAGS_minloglevel, and so does libc10, but with a different size. The dynamic
# linker merges the two, sentencepiece's constructor overwrites memory next to libc10's, and every later failed check in
# LibTorch aborts the program. A static library with hidden symbols exports nothing that could be merged.
set(sentencepiece_root ${PROJECT_SOURCE_DIR}/third_party/sentencepiece)
if(NOT EXISTS ${sentencepiece_root}/CMakeLists.txt)
  message(FATAL_ERROR "Found no sentencepiece in ${sentencepiece_root}. Run scripts/setup.sh.")
endif()

get_directory_property(own_compile_options COMPILE_OPTIONS)
block()
  set(CMAKE_UNITY_BUILD OFF)
  set(CMAKE_CXX_VISIBILITY_PRESET hidden)
  set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  set(CMAKE_MESSAGE_LOG_LEVEL WARNING)
  set(SPM_ENABLE_SHARED OFF CACHE INTERNAL "")
  set(SPM_ENABLE_TCMALLOC OFF CACHE INTERNAL "")
  add_compile_options(-w)
  add_subdirectory(${sentencepiece_root} ${CMAKE_BINARY_DIR}/sentencepiece EXCLUDE_FROM_ALL)
endblock()
set_directory_properties(PROPERTIES COMPILE_OPTIONS "${own_compile_options}")

add_library(sentencepiece_static INTERFACE)
target_include_directories(sentencepiece_static SYSTEM INTERFACE ${sentencepiece_root}/src)
target_link_libraries(sentencepiece_static INTERFACE sentencepiece_train-static sentencepiece-static)
