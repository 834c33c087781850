#include "core/config/yaml_tree.h"

#include <map>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

namespace dalle {
namespace {

constexpr int64_t kMaxNodes = 100'000;

YamlPlace place_of(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {.line = mark.line + 1, .column = mark.column + 1};
}

/// Builds the tree from the parser's events. The parser's own node tree would drop quotes and hide
/// repeated keys.
class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (std::exchange(has_document_, true))
      throw YamlError(place_of(mark), "found a second YAML document, expected one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add({.kind = YamlNode::Kind::kNull, .place = place_of(mark)}, anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // The parser tags a plain scalar "?" and a quoted one "!".
    const bool is_text = tag == "!" || tag == "tag:yaml.org,2002:str";
    if (!is_text) refuse_tag(mark, tag);
    add({.kind = YamlNode::Kind::kScalar,
         .place = place_of(mark),
         .text = value,
         .is_quoted = is_text},
        anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto named = anchors_.find(anchor);
    if (named == anchors_.end()) throw YamlError(place_of(mark), "found a recursive alias");
    count(named->second, mark);
    append(named->second);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct OpenNode {
    YamlNode node;
    YAML::anchor_t anchor;
  };

  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?")
      throw YamlError(place_of(mark), "found the YAML tag " + tag + ", expected none");
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    refuse_tag(mark, tag);
    open_.push_back({{.kind = kind, .place = place_of(mark)}, anchor});
  }

  void close() {
    OpenNode closed = std::move(open_.back());
    open_.pop_back();
    add(std::move(closed.node), closed.anchor);
  }

  void add(YamlNode node, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = node;
    append(std::move(node));
  }

  void append(YamlNode node) {
    if (open_.empty())
      root_ = std::move(node);
    else
      open_.back().node.children.push_back(std::move(node));
  }

  /// Adds the nodes that an alias copies: a few lines of aliases of aliases can name billions.
  void count(const YamlNode& node, const YAML::Mark& mark) {
    if (++copied_ > kMaxNodes)
      throw YamlError(
          place_of(mark),
          fmt::format("found aliases that stand for more than {} values, expected fewer",
                      kMaxNodes));
    for (const YamlNode& child : node.children) count(child, mark);
  }

  YamlNode root_;
  std::vector<OpenNode> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  int64_t copied_ = 0;
  bool has_document_ = false;
};

}  // namespace

YamlNode parse_yaml(const std::string& text) {
  std::istringstream stream(text);
  TreeBuilder builder;
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    throw YamlError(place_of(error.mark), "found a YAML syntax error: " + error.msg);
  }
  return builder.take_root();
}

}  // namespace dalle
