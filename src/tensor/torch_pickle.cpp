#include "tensor/torch_pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"

namespace dalle {
namespace {

using Index = PickleValue::Index;

constexpr std::array<std::string_view, 5> kFunctions = {
    kOrderedDict, kRebuildTensor, kRebuildParameter, "torch.device", "__builtin__.set"};

constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kStorageTypes = {
    {{"torch.FloatStorage", "F32"},
     {"torch.HalfStorage", "F16"},
     {"torch.BFloat16Storage", "BF16"},
     {"torch.DoubleStorage", "F64"},
     {"torch.LongStorage", "I64"},
     {"torch.IntStorage", "I32"},
     {"torch.ShortStorage", "I16"},
     {"torch.CharStorage", "I8"},
     {"torch.ByteStorage", "U8"},
     {"torch.BoolStorage", "BOOL"}}};

class PickleReader {
 public:
  PickleReader(std::string_view bytes, std::string_view source)
      : bytes_(bytes.substr(0, kMaxPickleBytes)), source_(source) {
    pickle_.values.emplace_back();
  }

  Pickle read() && {
    if (byte() != kProto || byte() != 2)
      fail("expected a pickle of protocol 2, which torch.save() writes by default");
    for (uint8_t opcode = byte(); opcode != kStop; opcode = byte()) execute(opcode);
    pickle_.root = pop(1).front();
    if (!stack_.empty() || !marks_.empty()) fail("values are left over at its end");
    pickle_.size = position_;
    return std::move(pickle_);
  }

 private:
  /// The instructions that this reader knows, by pickletools' names.
  enum Opcode : uint8_t {
    kAppend = 'a',
    kAppends = 'e',
    kBinFloat = 'G',
    kBinGet = 'h',
    kBinInt = 'J',
    kBinInt1 = 'K',
    kBinInt2 = 'M',
    kBinPersId = 'Q',
    kBinPut = 'q',
    kBinUnicode = 'X',
    kBuild = 'b',
    kEmptyDict = '}',
    kEmptyList = ']',
    kEmptyTuple = ')',
    kGlobal = 'c',
    kLong1 = 0x8a,
    kLongBinGet = 'j',
    kLongBinPut = 'r',
    kMark = '(',
    kNewFalse = 0x89,
    kNewObj = 0x81,
    kNewTrue = 0x88,
    kNoneValue = 'N',
    kProto = 0x80,
    kReduce = 'R',
    kSetItem = 's',
    kSetItems = 'u',
    kStop = '.',
    kTuple = 't',
    kTuple1 = 0x85,
    kTuple2 = 0x86,
    kTuple3 = 0x87,
  };

  void execute(uint8_t opcode) {
    switch (opcode) {
      case kMark:
        return marks_.push_back(stack_.size());
      case kNoneValue:
        return stack_.push_back(0);
      case kNewTrue:
      case kNewFalse:
        return push({.kind = PickleKind::kBool, .integer = opcode == kNewTrue});
      case kBinInt:
        return push_integer(static_cast<int32_t>(integer(4)));
      case kBinInt1:
        return push_integer(integer(1));
      case kBinInt2:
        return push_integer(integer(2));
      case kLong1:
        return push_long(take(integer(1)));
      case kBinFloat:
        return push_number();
      case kBinUnicode:
        return push({.kind = PickleKind::kText, .text = take(integer(4))});
      case kEmptyTuple:
        return push({.kind = PickleKind::kTuple});
      case kTuple:
        return push({.kind = PickleKind::kTuple, .items = pop_to_mark()});
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return push({.kind = PickleKind::kTuple, .items = pop(opcode - kTuple1 + 1U)});
      case kEmptyList:
        return push({.kind = PickleKind::kList});
      case kAppend:
        return append(pop(1));
      case kAppends:
        return append(pop_to_mark());
      case kEmptyDict:
        return push({.kind = PickleKind::kDict});
      case kSetItem:
        return set_items(pop(2));
      case kSetItems:
        return set_items(pop_to_mark());
      case kGlobal:
        return push_global();
      case kReduce:
        return push_call(PickleKind::kFunction, PickleKind::kCall);
      case kNewObj:
        return push_call(PickleKind::kClass, PickleKind::kObject);
      case kBuild:
        return build();
      case kBinPersId:
        return push_persistent();
      case kBinPut:
        return memoize(integer(1));
      case kLongBinPut:
        return memoize(integer(4));
      case kBinGet:
        return recall(integer(1));
      case kLongBinGet:
        return recall(integer(4));
      default:
        fail("unsupported opcode {:#04x}, which tensor files do not need", opcode);
    }
  }

  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error("{}: refused, at byte {} of its pickle: {}", source_, position_,
                fmt::format(format, std::forward<Args>(args)...));
  }

  std::string_view take(size_t count) {
    const size_t left = bytes_.size() - position_;
    if (count > left)
      fail("truncated or larger than {} bytes: found {} bytes, expected {}", kMaxPickleBytes, left,
           count);
    position_ += count;
    return bytes_.substr(position_ - count, count);
  }

  uint8_t byte() { return static_cast<uint8_t>(take(1).front()); }

  uint32_t integer(int width) {
    return *read_integer(take(static_cast<size_t>(width)), 0, width, ByteOrder::kLittle);
  }

  std::string_view line() {
    constexpr size_t kMaxName = 256;
    const size_t length = bytes_.substr(position_, kMaxName).find('\n');
    if (length == std::string_view::npos)
      fail("found a name that is truncated or longer than {} bytes", kMaxName);
    const std::string_view name = take(length + 1).substr(0, length);
    if (!std::ranges::all_of(name, [](char c) { return c > ' ' && c < '\x7f'; }))
      fail("found a name with spaces, control characters or letters outside ASCII");
    return name;
  }

  void push(PickleValue value) {
    if (pickle_.values.size() == kMaxPickleValues) fail("more than {} values", kMaxPickleValues);
    stack_.push_back(static_cast<Index>(pickle_.values.size()));
    pickle_.values.push_back(std::move(value));
  }

  void push_integer(int64_t value) { push({.kind = PickleKind::kInteger, .integer = value}); }

  void push_long(std::string_view digits) {
    if (digits.size() > sizeof(int64_t))
      return push({.kind = PickleKind::kLongInteger, .text = digits});
    const bool is_negative = !digits.empty() && (digits.back() & 0x80) != 0;
    int64_t value = is_negative ? -1 : 0;
    std::memcpy(&value, digits.data(), digits.size());
    push_integer(value);
  }

  void push_number() {
    const std::string_view digits = take(8);
    const uint64_t high = *read_integer(digits, 0, 4, ByteOrder::kBig);
    const uint64_t low = *read_integer(digits, 4, 4, ByteOrder::kBig);
    push({.kind = PickleKind::kNumber, .number = std::bit_cast<double>(high << 32 | low)});
  }

  void push_global() {
    const std::string_view module = line(), name = line();
    const std::string full = fmt::format("{}.{}", module, name);
    if (const auto* found = std::ranges::find(kFunctions, full); found != kFunctions.end())
      return push({.kind = PickleKind::kFunction, .text = *found});
    for (const auto& [type, dtype] : kStorageTypes)
      if (type == full) return push({.kind = PickleKind::kStorageType, .text = dtype});
    if (full.starts_with("torch.nn.modules.") || full.starts_with("dall_e."))
      return push({.kind = PickleKind::kClass, .text = name});
    fail("found {}, which is not part of a tensor, a layer or OpenAI's dVAE", full);
  }

  /// Replaces the two topmost values, a callee and its arguments.
  void push_call(PickleKind callee_kind, PickleKind call_kind) {
    const std::vector<Index> operands = pop(2);
    if (pickle_.at(operands[0]).kind != callee_kind ||
        pickle_.at(operands[1]).kind != PickleKind::kTuple)
      fail("found a call of something that is not a known {}",
           callee_kind == PickleKind::kClass ? "class" : "function");
    if (pickle_.at(operands[0]).text == kOrderedDict && !pickle_.at(operands[1]).items.empty())
      fail("found an OrderedDict with arguments, expected one whose items are set afterwards");
    push({.kind = call_kind, .callee = operands[0], .arguments = operands[1]});
  }

  /// A storage; or a module's class, which the container before PyTorch 1.6 stored this way
  /// together with its source code.
  void push_persistent() {
    const Index id = pop(1).front();
    const PickleValue& value = pickle_.at(id);
    if (value.kind != PickleKind::kTuple || value.items.empty())
      fail("found a persistent ID that is not a tuple");
    const auto is_class = [&](Index item) { return pickle_.at(item).kind == PickleKind::kClass; };
    if (pickle_.at(value.items[0]).text == "module" && value.items.size() > 1 &&
        is_class(value.items[1]))
      return stack_.push_back(value.items[1]);
    push({.kind = PickleKind::kPersistent, .arguments = id});
  }

  bool is_ordered_dict(const PickleValue& value) const {
    return value.kind == PickleKind::kCall && pickle_.at(value.callee).text == kOrderedDict;
  }

  void append(const std::vector<Index>& items) {
    PickleValue& list = top();
    if (list.kind != PickleKind::kList) fail("items are appended to something that is not a list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }

  void set_items(const std::vector<Index>& items) {
    PickleValue& dict = top();
    if (dict.kind != PickleKind::kDict && !is_ordered_dict(dict))
      fail("items are added to something that is not a dictionary");
    if (items.size() % 2 != 0) fail("found a key without a value");
    dict.items.insert(dict.items.end(), items.begin(), items.end());
  }

  void build() {
    const Index state = pop(1).front();
    PickleValue& value = top();
    const bool has_attributes = value.kind == PickleKind::kObject || is_ordered_dict(value);
    if (!has_attributes || value.state != 0 || pickle_.at(state).kind != PickleKind::kDict)
      fail("found attributes of something other than a layer or OrderedDict, or set twice");
    value.state = state;
  }

  void memoize(uint32_t key) {
    if (key >= kMaxPickleValues)
      fail("found the memo key {}, expected less than {}", key, kMaxPickleValues);
    const Index value = index_of_top();
    if (key >= memo_.size()) memo_.resize(key + size_t{1}, kUnset);
    memo_[key] = value;
  }

  void recall(uint32_t key) {
    if (key >= memo_.size() || memo_[key] == kUnset) fail("undefined memo key {}", key);
    stack_.push_back(memo_[key]);
  }

  /// The size that the stack must keep: values below a mark belong to instructions after it.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  Index index_of_top() const {
    if (stack_.size() == floor()) fail("found an opcode without its operands");
    return stack_.back();
  }

  PickleValue& top() { return pickle_.values[index_of_top()]; }

  /// The topmost values in the order in which they were pushed.
  std::vector<Index> pop(size_t count) {
    if (stack_.size() - floor() < count) fail("found an opcode without its operands");
    const auto begin = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<Index> popped(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    return popped;
  }

  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) fail("found an opcode without its MARK");
    std::vector<Index> popped = pop(stack_.size() - floor());
    marks_.pop_back();
    return popped;
  }

  static constexpr Index kUnset = UINT32_MAX;

  std::string_view bytes_;
  std::string_view source_;
  size_t position_ = 0;
  Pickle pickle_;
  std::vector<Index> stack_;
  std::vector<size_t> marks_;  ///< sizes of the stack
  std::vector<Index> memo_;    ///< by key
};

}  // namespace

Pickle read_torch_pickle(std::string_view bytes, std::string_view source) {
  return PickleReader(bytes, source).read();
}

}  // namespace dalle
