# Defines the imported target `opencv_image`: OpenCV's core, imgproc and imgcodecs. On Debian, OpenCV's own CMake package is
# in libopencv-dev, which depends on hundreds of megabytes that this project does not use.
find_path(OpenCVImage_INCLUDE_DIR opencv2/imgcodecs.hpp PATH_SUFFIXES opencv4)
foreach(component core imgproc imgcodecs)
  find_library(OpenCVImage_${component} opencv_${component})
endforeach()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenCVImage REQUIRED_VARS
  OpenCVImage_INCLUDE_DIR OpenCVImage_core OpenCVImage_imgproc OpenCVImage_imgcodecs)
if(OpenCVImage_FOUND AND NOT TARGET opencv_image)
  add_library(opencv_image INTERFACE IMPORTED)
  target_include_directories(opencv_image SYSTEM INTERFACE ${OpenCVImage_INCLUDE_DIR})
  target_link_libraries(opencv_image INTERFACE ${OpenCVImage_imgcodecs} ${OpenCVImage_imgproc} ${OpenCVImage_core})
endif()
