#pragma once

/// The public API of dalle: everything that these headers declare in namespace dalle.
///
/// Tensors are LibTorch's, so a program must link the LibTorch version that the package was built
/// with (2.11); the CMake package finds it. Log messages go to standard error.

#include "dalle/error.h"
#include "dalle/image.h"
#include "dalle/model.h"
#include "dalle/train.h"
