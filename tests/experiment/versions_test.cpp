#include "experiment/versions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/build_info.h"
#include "core/files.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::HasSubstr;

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Versions, NameTheBuildAndTheMachine) {
  const TemporaryDirectory folder;
  record_versions(folder / "versions.json");
  const std::string json = read_file(folder / "versions.json");
  for (const char* key :
       {"dalle", "git_revision", "build_type", "compiler", "libtorch", "cuda", "cpu", "threads"})
    EXPECT_THAT(json, HasSubstr(std::string("\"") + key + "\": "));
  EXPECT_THAT(json, HasSubstr(std::string(build_info().git_revision)));
}

TEST(Versions, AnotherStartAddsAnEntryOnlyIfSomethingChanged) {
  const TemporaryDirectory folder;
  const auto path = folder / "versions.json";
  record_versions(path);
  record_versions(path);
  EXPECT_EQ(count(read_file(path), "git_revision"), 1u);
  write_file_atomically(path, "[{\"dalle\": \"0.0.1\", \"git_revision\": \"older\"}]");
  record_versions(path);
  record_versions(path);
  EXPECT_EQ(count(read_file(path), "git_revision"), 2u);
  EXPECT_THAT(read_file(path), HasSubstr("older"));
}

TEST(Versions, WhatIsNoListIsNotOverwritten) {
  const TemporaryDirectory folder;
  const auto path = folder / "versions.json";
  write_file_atomically(path, "my notes");
  EXPECT_THAT(error_of([&] { record_versions(path); }),
              HasSubstr("versions.json: expected a JSON list of versions"));
  EXPECT_EQ(read_file(path), "my notes");
}

}  // namespace
}  // namespace dalle
