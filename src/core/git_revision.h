#pragma once

namespace dalle {

/// Defined in a generated source (cmake/GitRevision.cmake), so that a new commit recompiles only
/// that file.
extern const char* const kGitRevision;

}  // namespace dalle
