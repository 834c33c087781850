# Writes the source that defines kGitRevision; run as a script in every build. The file is touched only when the
# revision changes, so an unchanged tree rebuilds nothing.
#
#   cmake -DSOURCE_DIR=... -DOUTPUT=... -P GitRevision.cmake
set(revision "")
if(EXISTS ${SOURCE_DIR}/.git) # not the revision of a repository that this one was unpacked into
  execute_process(COMMAND git -C ${SOURCE_DIR} describe --always --exclude=* --abbrev=40 --dirty
                  OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(revision STREQUAL "")
  set(revision unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT [[
#include "git_revision.h"

namespace dalle {

const char* const kGitRevision = "@revision@";

}  // namespace dalle
]] @ONLY)
