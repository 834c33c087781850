# Defines the imported target `torch` from a LibTorch folder (include/, lib/), without Torch's own CMake package, whose
# CUDA detection fails or warns if there is no toolkit.
#
#   TORCH_ROOT      the folder: -DTORCH_ROOT= of this configure, else the environment variable, else the folder of the last
#                   configure, else third_party/libtorch/torch
#   DALLE_CUDA      ON, OFF or AUTO
#   Torch_CUDA      set: TRUE when the CUDA libraries are linked
#   OPENMP_RUNTIME  set: the OpenMP library
#   Torch_KERNELS, TRITON_ROOT
#                   set: TRUE when Triton can compile the kernels of src/nn/gpu/kernels, and the folder that contains it
get_property(type CACHE TORCH_ROOT PROPERTY TYPE) # UNINITIALIZED: from this command line
if(NOT type STREQUAL "UNINITIALIZED" AND NOT "$ENV{TORCH_ROOT}" STREQUAL "")
  set(TORCH_ROOT $ENV{TORCH_ROOT})
elseif(NOT TORCH_ROOT)
  set(TORCH_ROOT third_party/libtorch/torch)
endif()
cmake_path(ABSOLUTE_PATH TORCH_ROOT BASE_DIRECTORY ${PROJECT_SOURCE_DIR} NORMALIZE)
set(TORCH_ROOT ${TORCH_ROOT} CACHE PATH "LibTorch: the folder that contains include/ and lib/" FORCE)
if(NOT EXISTS ${TORCH_ROOT}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "Found no LibTorch in ${TORCH_ROOT}. Run scripts/setup.sh or set -DTORCH_ROOT=<folder with include/ and lib/>.")
endif()

# The second file includes the first; in older releases it defines the version itself.
set(Torch_VERSION "")
foreach(header headeronly/version.h csrc/api/include/torch/version.h)
  if(NOT Torch_VERSION AND EXISTS ${TORCH_ROOT}/include/torch/${header})
    file(STRINGS ${TORCH_ROOT}/include/torch/${header} version_lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" Torch_VERSION "${version_lines}")
    string(REPLACE ";" "." Torch_VERSION "${Torch_VERSION}")
  endif()
endforeach()
if(NOT Torch_VERSION MATCHES "^2\\.11\\.")
  message(FATAL_ERROR "LibTorch in ${TORCH_ROOT}: found version ${Torch_VERSION}, expected 2.11")
endif()

set(Torch_CUDA FALSE)
if(NOT DALLE_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit 13 QUIET)
  find_path(Torch_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  mark_as_advanced(Torch_NCCL_INCLUDE_DIR)
  if(CUDAToolkit_FOUND AND Torch_NCCL_INCLUDE_DIR AND EXISTS ${TORCH_ROOT}/lib/libtorch_cuda.so)
    set(Torch_CUDA TRUE)
  elseif(DALLE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "DALLE_CUDA=ON needs a CUDA 13 toolkit, nccl.h and ${TORCH_ROOT}/lib/libtorch_cuda.so")
  endif()
endif()

# Triton compiles the kernels of src/nn/gpu/kernels. It is next to LibTorch, as in a site-packages folder.
set(Torch_KERNELS FALSE)
if(Torch_CUDA)
  cmake_path(GET TORCH_ROOT PARENT_PATH TRITON_ROOT)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env PYTHONPATH=${TRITON_ROOT} python3 -B -c "import triton; print(triton.__version__)"
    OUTPUT_VARIABLE triton_version ERROR_VARIABLE triton_error OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(triton_version MATCHES "^3\\.6\\.")
    set(Torch_KERNELS TRUE)
  else()
    string(REGEX REPLACE ".*\n([^\n]+)\n*$" "\\1" triton_error "${triton_error}")
    message(STATUS "No kernels for GPUs, so training on them is slower: expected Triton 3.6 in ${TRITON_ROOT}, found "
      "${triton_version}${triton_error}. To install it: python3 -m pip install --no-deps --target ${TRITON_ROOT} triton==3.6.0")
  endif()
endif()

# Torch ships fmt 12, but Debian's spdlog is built with fmt 9. A folder that contains only a link to the system's fmt comes
# before Torch's in the include order.
set(fmt_first ${CMAKE_BINARY_DIR}/fmt_first)
find_path(fmt_include fmt/format.h PATHS /usr/include /usr/local/include NO_DEFAULT_PATH REQUIRED)
file(MAKE_DIRECTORY ${fmt_first})
file(CREATE_LINK ${fmt_include}/fmt ${fmt_first}/fmt SYMBOLIC)

add_library(torch INTERFACE IMPORTED)
set_target_properties(torch PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${fmt_first})
target_include_directories(torch SYSTEM INTERFACE ${TORCH_ROOT}/include ${TORCH_ROOT}/include/torch/csrc/api/include)
target_compile_definitions(torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1 $<$<BOOL:${Torch_CUDA}>:DALLE_CUDA=1>)
target_link_libraries(torch INTERFACE ${TORCH_ROOT}/lib/libtorch_cpu.so ${TORCH_ROOT}/lib/libc10.so)
# LLVM's OpenMP runtime replaces GNU's, which LibTorch requests: libomp exports the same symbols, and libraries that a
# program links directly are searched first. GNU's threads spin at barriers, so a single other busy process on the machine
# would almost stop training.
file(GLOB llvm_libraries /usr/lib/llvm-*/lib)
find_library(OPENMP_RUNTIME NAMES libomp.so.5 omp iomp5 HINTS ${llvm_libraries} REQUIRED)
target_link_libraries(torch INTERFACE "-Wl,--push-state,--no-as-needed" ${OPENMP_RUNTIME} "-Wl,--pop-state")
# Without it, at::parallel_for in our sources runs on one thread. Only for compiling: the runtime is the one above.
target_compile_options(torch INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fopenmp>)
if(Torch_CUDA)
  target_include_directories(torch SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS} ${Torch_NCCL_INCLUDE_DIR})
  # No symbol of libtorch_cuda is referenced, so without --no-as-needed the linker would drop it.
  target_link_libraries(torch INTERFACE "-Wl,--push-state,--no-as-needed" ${TORCH_ROOT}/lib/libtorch_cuda.so
    ${TORCH_ROOT}/lib/libc10_cuda.so "-Wl,--pop-state" CUDA::cudart)
endif()
if(Torch_CUDA)
  message(STATUS "LibTorch ${Torch_VERSION} at ${TORCH_ROOT} (CUDA ${CUDAToolkit_VERSION})")
else()
  message(STATUS "LibTorch ${Torch_VERSION} at ${TORCH_ROOT} (CPU)")
endif()
