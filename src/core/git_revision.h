#pragma once

namespace dalle {

/// Defined in a source that cmake/GitRevision.cmake writes, so that a commit recompiles that one.
extern const char* const kGitRevision;

}  // namespace dalle
