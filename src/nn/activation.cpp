#include "dalle/nn/activation.h"

#include <torch/types.h>

#include "dalle/core/error.h"

namespace dalle {

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kQuickGelu:
      return x * at::sigmoid(1.702 * x);
  }
  throw Error("activation {} has no formula", static_cast<int>(activation));
}

}  // namespace dalle
