#pragma once

#include "core/error.h"

namespace dalle {

/// A rank cannot continue because another one, or the store through which they meet, is gone or
/// stuck.
class RankLost : public Error {
  using Error::Error;
};

/// Exit status of a rank that exits because another one is lost.
inline constexpr int kExitRankLost = 3;

}  // namespace dalle
