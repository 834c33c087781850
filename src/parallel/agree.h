#pragma once

#include "dist/process_group.h"

namespace dalle {

/// Whether any rank says yes. A collective: all ranks get the same answer.
bool agree_any(ProcessGroup& group, bool own);

}  // namespace dalle
