#include "data/image/file_kind.h"

#include <algorithm>
#include <array>
#include <string>

#include "core/ascii.h"

namespace dalle {
namespace {

struct Kind {
  std::string_view prefix;
  std::string_view name;
};

using namespace std::string_view_literals;

constexpr std::array kKinds{
    Kind{"version https://git-lfs"sv, "a Git LFS pointer (run git lfs pull to fetch the file)"sv},
    Kind{"\x1f\x8b"sv, "gzip-compressed (gunzip it first)"sv},
    Kind{"\x28\xb5\x2f\xfd"sv, "zstd-compressed (unzstd it first)"sv},
    Kind{"BZh"sv, "bzip2-compressed (bunzip2 it first)"sv},
    Kind{"\xfd\x37zXZ\0"sv, "xz-compressed (unxz it first)"sv},
    Kind{"PK\x03\x04"sv, "a zip archive"sv},
    Kind{"PAR1"sv, "a Parquet file"sv},
    Kind{"%PDF-"sv, "a PDF document"sv},
};

/// Prefixes of the error pages of web servers and object stores, in lowercase.
constexpr std::array kWebPages{
    Kind{"<!doctype html"sv, "an HTML page"sv},
    Kind{"<html"sv, "an HTML page"sv},
    Kind{"<head"sv, "an HTML page"sv},
    Kind{"<?xml"sv, "an XML document"sv},
};

template <size_t N>
std::string_view name_in(const std::array<Kind, N>& kinds, std::string_view head) {
  const auto kind = std::ranges::find_if(
      kinds, [&](const Kind& candidate) { return head.starts_with(candidate.prefix); });
  return kind == kinds.end() ? "" : kind->name;
}

/// In lowercase, without a byte order mark and leading whitespace.
std::string normalized(std::string_view head) {
  if (head.starts_with("\xef\xbb\xbf")) head.remove_prefix(3);
  head.remove_prefix(std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  return lower_case(head);
}

}  // namespace

std::string_view file_kind(std::string_view head) {
  if (head.empty()) return "empty";
  if (const std::string_view name = name_in(kKinds, head); !name.empty()) return name;
  if (const std::string_view name = name_in(kWebPages, normalized(head)); !name.empty())
    return name;
  return head.find_first_not_of('\0') == std::string_view::npos ? "zeros" : "";
}

}  // namespace dalle
