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
  /// "relation" of the stated values, without those that no caption states.
  std::vector<std::pair<std::string_view, Interval>> proportions() const;

  /// Summed over the images.
  ShapesErrors errors() const;

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
