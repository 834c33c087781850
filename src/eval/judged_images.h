#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/interval.h"
#include "eval/shapes_match.h"

namespace dalle {

/// The judge's verdicts on images of captions. Images of equal captions are not independent of one
/// another, nor are the objects of an image, so intervals are those of clusters of equal captions.
class JudgedImages {
 public:
  void add(const std::string& caption, const ShapesMatch& match);

  int64_t images() const { return static_cast<int64_t>(verdicts_.size()); }

  /// "exact" and "count" of the images; "shape", "color", "size", "texture", "background" and
  /// "relation" of the stated values, without those that no caption states; and "atoms" of all of
  /// these and the counts.
  std::vector<std::pair<std::string_view, Interval>> proportions() const;

  /// Summed over the images.
  ShapesErrors errors() const;

  /// The images by how many atoms their captions have: ShapesMatch::atoms().
  std::map<int64_t, JudgedImages> by_atoms() const;

  /// The share of exact images over the product of the shares of images in which all values of one
  /// kind are right. 1 if kinds are right or wrong independently of one another; less if they
  /// interfere: the more an image gets right of one kind, the less of the others.
  /// @return  nothing if no image is exact
  std::optional<Interval> joint_over_product() const;

  /// The number of exact images over that of `ceiling`.
  /// @param ceiling  as many images of each caption, added in the same order
  /// @return         nothing if no image of `ceiling` is exact
  std::optional<Interval> exact_over(const JudgedImages& ceiling) const;

 private:
  struct Verdict {
    size_t cluster;
    ShapesMatch match;
  };
  /// By cluster.
  struct Sums {
    std::vector<double> right, stated;
  };

  template <class ValuesOf>
  Sums sums_of(ValuesOf&& values_of) const;

  std::map<std::string, size_t> clusters_;  // by caption
  std::vector<Verdict> verdicts_;
};

}  // namespace dalle
