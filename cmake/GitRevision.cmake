# Writes the source that defines kGitRevision; runs as a script in every build. The file changes only when the revision
# does, so an unchanged tree rebuilds nothing.
#
#   cmake -DSOURCE_DIR=... -DOUTPUT=... -P GitRevision.cmake
set(revision "")
if(EXISTS ${SOURCE_DIR}/.git) # else it would be the revision of an enclosing repository
  execute_process(COMMAND git -C ${SOURCE_DIR} describe --always --exclude=* --abbrev=40 --dirty
                  OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(revision STREQUAL "")
  set(revision unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT [[
namespace dalle {

extern const char* const kGitRevision;
const char* const kGitRevision = "@revision@";

}  // namespace dalle
]] @ONLY)
