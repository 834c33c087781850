#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace torch::nn {
class Module;
}

namespace dalle {

/// All parameters of a module as views of one flat buffer, and their gradients as views of another.
///
/// Clipping, the optimizer, the EMA, reduction over ranks and saving then take a few large
/// operations instead of a loop over tensors. Each parameter starts at a multiple of 64 bytes; the
/// gaps between them are zero and stay zero.
///
/// Call zero_gradients() instead of zero_grad() on the module, which would drop the views.
class FlatParameters {
 public:
  /// The position of one parameter in the flat buffers.
  struct Slice {
    std::string name;  ///< dotted name in the module
    int64_t offset;
    std::vector<int64_t> shape;
    int64_t size;

    /// The parameter's part of a flat buffer [P], in its shape; shares the buffer's memory.
    at::Tensor view_of(const at::Tensor& flat) const;
  };

  /// Moves the module's parameters into a new flat buffer, never using more memory than that of the
  /// two buffers. The module must be on its final device and must outlive this object.
  /// @param parts  the buffers' size is padded to a multiple of this many blocks (gradient_norm.h),
  ///               so that ranks can divide them evenly
  /// @throws dalle::Error if the parameters are not all of one type and on one device
  explicit FlatParameters(torch::nn::Module& module, int64_t parts = 1);

  /// [P] the parameters' values, in the order of slices()
  const at::Tensor& values() const { return values_; }
  /// [P] the sum of the gradients of all backward passes since zero_gradients(). After a step has
  /// used them, their memory may serve as scratch space until the next zero_gradients().
  const at::Tensor& gradients() const { return gradients_; }
  const std::vector<Slice>& slices() const { return slices_; }
  /// The module's parameters, in the order of slices().
  const std::vector<at::Tensor>& parameters() const { return parameters_; }

  void zero_gradients();

  /// The parts of a flat buffer [P] under the parameters' names; they share its memory.
  std::vector<std::pair<std::string, at::Tensor>> named_views(const at::Tensor& flat) const;

  /// The name of the first parameter whose part of `flat` [P] has a non-finite value; empty if none
  /// has.
  std::string first_non_finite(const at::Tensor& flat) const;

  /// Makes the module compute with the values of another flat buffer [P], without copying, until
  /// this guard is destroyed. Used to evaluate the EMA.
  class [[nodiscard]] BoundValues {
   public:
    BoundValues(FlatParameters& parameters, const at::Tensor& values);
    ~BoundValues();
    BoundValues(const BoundValues&) = delete;
    BoundValues& operator=(const BoundValues&) = delete;

   private:
    FlatParameters& parameters_;
  };

 private:
  void bind(const at::Tensor& values);

  std::vector<at::Tensor> parameters_;
  std::vector<Slice> slices_;
  at::Tensor values_;
  at::Tensor gradients_;
};

}  // namespace dalle
