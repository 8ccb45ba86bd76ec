#include "weights/pickle.h"

#include <cstring>
#include <map>
#include <stdexcept>

namespace liveavatar {
namespace {

using Kind = PickleValue::Kind;

// Thrown only inside this file; read_pickle converts it to a Status.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr size_t kMaxValues = 20'000'000;  // limits the memory of a pickle bomb
constexpr const char* kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr const char* kRebuildTyped = "torch._utils._rebuild_tensor_v3";  // of types without a storage class: fp8
constexpr const char* kUntypedStorage = "torch.storage.UntypedStorage";
constexpr const char* kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr const char* kOrderedDict = "collections.OrderedDict";

const std::map<std::string, DType>& storage_types() {
  static const std::map<std::string, DType> types = {
      {"torch.FloatStorage", DType::kF32},     {"torch.DoubleStorage", DType::kF64}, {"torch.HalfStorage", DType::kF16},
      {"torch.BFloat16Storage", DType::kBF16}, {"torch.LongStorage", DType::kI64},   {"torch.IntStorage", DType::kI32},
      {"torch.ShortStorage", DType::kI16},     {"torch.CharStorage", DType::kI8},    {"torch.ByteStorage", DType::kU8},
      {"torch.BoolStorage", DType::kBool}};
  return types;
}

// What _rebuild_tensor_v3 names as the type of a tensor over untyped bytes.
const std::map<std::string, DType>& element_types() {
  static const std::map<std::string, DType> types = {{"torch.float32", DType::kF32},
                                                     {"torch.float64", DType::kF64},
                                                     {"torch.float16", DType::kF16},
                                                     {"torch.half", DType::kF16},
                                                     {"torch.bfloat16", DType::kBF16},
                                                     {"torch.int64", DType::kI64},
                                                     {"torch.int32", DType::kI32},
                                                     {"torch.int16", DType::kI16},
                                                     {"torch.int8", DType::kI8},
                                                     {"torch.uint8", DType::kU8},
                                                     {"torch.float8_e4m3fn", DType::kF8E4M3},
                                                     {"torch.float8_e5m2", DType::kF8E5M2},
                                                     {"torch.bool", DType::kBool}};
  return types;
}

PicklePtr make(Kind kind) {
  auto value = std::make_shared<PickleValue>();
  value->kind = kind;
  return value;
}

class Machine {
 public:
  explicit Machine(const std::string& bytes) : bytes_(bytes) {}

  PicklePtr run() {
    while (true) {
      uint8_t op = take<uint8_t>();
      if (op == '.') return pop();
      if (++values_ > kMaxValues) throw Refused("it is absurdly long");
      if (!scalar(op) && !container(op) && !memo(op) && !object(op)) {
        throw Refused("it uses pickle opcode " + std::to_string(op) + ", which no checkpoint of tensors needs");
      }
    }
  }

 private:
  template <typename T>
  T take() {
    T value;
    if (bytes_.size() - at_ < sizeof(T)) throw Refused("its pickle is cut off");
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::string take_text(uint64_t length) {
    if (length > bytes_.size() - at_) throw Refused("its pickle is cut off inside a string");
    std::string text = bytes_.substr(at_, length);
    at_ += length;
    return text;
  }
  std::string take_line() {
    size_t end = bytes_.find('\n', at_);
    if (end == std::string::npos) throw Refused("its pickle is cut off");
    std::string text = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return text;
  }

  void push(PicklePtr value) { stack_.push_back(std::move(value)); }
  void push_int(int64_t integer, Kind kind = Kind::kInt) {
    PicklePtr value = make(kind);
    value->integer = integer;
    push(value);
  }
  void push_text(Kind kind, std::string text) {
    PicklePtr value = make(kind);
    value->text = std::move(text);
    push(value);
  }
  PicklePtr pop() {
    if (stack_.empty()) throw Refused("its pickle takes from an empty stack");
    PicklePtr value = stack_.back();
    stack_.pop_back();
    return value;
  }
  PicklePtr& top() {
    if (stack_.empty()) throw Refused("its pickle takes from an empty stack");
    return stack_.back();
  }
  std::vector<PicklePtr> pop_to_mark() {
    std::vector<PicklePtr> items;
    while (true) {
      PicklePtr value = pop();
      if (value->kind == Kind::kMark) break;
      items.push_back(std::move(value));
    }
    return {items.rbegin(), items.rend()};
  }

  bool scalar(uint8_t op) {
    switch (op) {
      case 0x80:
        take<uint8_t>();
        return true;  // PROTO
      case 0x95:
        take<uint64_t>();
        return true;  // FRAME
      case 'N':
        push(make(Kind::kNone));
        return true;
      case 0x88:
        push_int(1, Kind::kBool);
        return true;
      case 0x89:
        push_int(0, Kind::kBool);
        return true;
      case 'J':
        push_int(take<int32_t>());
        return true;
      case 'K':
        push_int(take<uint8_t>());
        return true;
      case 'M':
        push_int(take<uint16_t>());
        return true;
      case 0x8a:
        push_int(take_long(take<uint8_t>()));
        return true;
      case 'G':
        take<uint64_t>();
        push(make(Kind::kFloat));
        return true;
      case 'X':
        push_text(Kind::kString, take_text(take<uint32_t>()));
        return true;
      case 0x8c:
        push_text(Kind::kString, take_text(take<uint8_t>()));
        return true;
      case 0x8d:
        push_text(Kind::kString, take_text(take<uint64_t>()));
        return true;
      default:
        return false;
    }
  }

  int64_t take_long(uint8_t length) {
    if (length > 8) throw Refused("it holds a number beyond 64 bits");
    std::string raw = take_text(length);
    uint64_t value = 0;
    for (size_t i = 0; i < raw.size(); ++i) value |= uint64_t{static_cast<uint8_t>(raw[i])} << (8 * i);
    if (length > 0 && length < 8 && (raw.back() & 0x80)) value |= ~uint64_t{0} << (8 * length);
    return static_cast<int64_t>(value);
  }

  bool container(uint8_t op) {
    switch (op) {
      case '(':
        push(make(Kind::kMark));
        return true;
      case '0':
        pop();
        return true;
      case ')':
        push(make(Kind::kTuple));
        return true;
      case ']':
        push(make(Kind::kList));
        return true;
      case '}':
        push(make(Kind::kDict));
        return true;
      case 't':
        push_tuple(pop_to_mark());
        return true;
      case 0x85:
        push_tuple(pop_some(1));
        return true;
      case 0x86:
        push_tuple(pop_some(2));
        return true;
      case 0x87:
        push_tuple(pop_some(3));
        return true;
      case 'a':
        append(pop_some(1));
        return true;
      case 'e':
        append(pop_to_mark());
        return true;
      case 's':
        set_items(pop_some(2));
        return true;
      case 'u':
        set_items(pop_to_mark());
        return true;
      default:
        return false;
    }
  }
  std::vector<PicklePtr> pop_some(size_t count) {
    std::vector<PicklePtr> items(count);
    while (count-- > 0) items[count] = pop();
    return items;
  }
  void push_tuple(std::vector<PicklePtr> items) {
    PicklePtr value = make(Kind::kTuple);
    value->items = std::move(items);
    push(value);
  }
  void append(const std::vector<PicklePtr>& items) {
    if (top()->kind != Kind::kList) throw Refused("its pickle appends to something that is no list");
    top()->items.insert(top()->items.end(), items.begin(), items.end());
  }
  void set_items(const std::vector<PicklePtr>& items) {
    if (top()->kind != Kind::kDict || items.size() % 2 != 0)
      throw Refused("its pickle sets items of something that is no dictionary");
    for (size_t i = 0; i < items.size(); i += 2) top()->pairs.emplace_back(items[i], items[i + 1]);
  }

  bool memo(uint8_t op) {
    switch (op) {
      case 'q':
        memo_[take<uint8_t>()] = top();
        return true;
      case 'r':
        memo_[take<uint32_t>()] = top();
        return true;
      case 0x94: {
        uint64_t next = memo_.size();
        memo_[next] = top();
        return true;
      }
      case 'h':
        recall(take<uint8_t>());
        return true;
      case 'j':
        recall(take<uint32_t>());
        return true;
      default:
        return false;
    }
  }
  void recall(uint64_t slot) {
    auto it = memo_.find(slot);
    if (it == memo_.end())
      throw Refused("its pickle reads memo slot " + std::to_string(slot) + ", which was never written");
    push(it->second);
  }

  bool object(uint8_t op) {
    switch (op) {
      case 'c': {
        std::string module = take_line();
        push_global(module + "." + take_line());
        return true;
      }
      case 0x93: {
        auto names = pop_some(2);
        push_global(text_of(names[0]) + "." + text_of(names[1]));
        return true;
      }
      case 'Q':
        push_storage(pop());
        return true;
      case 'R': {
        PicklePtr arguments = pop();
        call(pop(), arguments);
        return true;
      }
      case 'b':
        build();
        return true;
      default:
        return false;
    }
  }
  static const std::string& text_of(const PicklePtr& value) {
    if (value->kind != Kind::kString) throw Refused("its pickle names something without a string");
    return value->text;
  }
  void push_global(const std::string& name) {
    bool known = name == kRebuildTensor || name == kRebuildTyped || name == kRebuildParameter || name == kOrderedDict ||
                 name == kUntypedStorage || storage_types().contains(name) || element_types().contains(name);
    if (!known)
      throw Refused("it wants to call or build '" + name + "'; only tensors are read and nothing is executed");
    push_text(Kind::kGlobal, name);
  }

  // ('storage', torch.XStorage, key, location, elements)
  void push_storage(const PicklePtr& id) {
    if (id->kind != Kind::kTuple || id->items.size() < 5) throw Refused("its storage record is malformed");
    const auto& items = id->items;
    bool untyped = items[1]->kind == Kind::kGlobal && items[1]->text == kUntypedStorage;
    if (items[1]->kind != Kind::kGlobal || (!untyped && !storage_types().contains(items[1]->text)))
      throw Refused("its storage has an unknown type");
    if (items[4]->kind != Kind::kInt || items[4]->integer < 0) throw Refused("its storage has a malformed size");
    PicklePtr storage = make(Kind::kStorage);
    storage->tensor.storage_key = text_of(items[2]);
    storage->untyped = untyped;
    storage->tensor.dtype = untyped ? DType::kU8 : storage_types().at(items[1]->text);
    storage->tensor.storage_elements = items[4]->integer;
    push(storage);
  }

  void call(const PicklePtr& function, const PicklePtr& arguments) {
    if (function->kind != Kind::kGlobal || arguments->kind != Kind::kTuple)
      throw Refused("its pickle calls something that is no function");
    const auto& items = arguments->items;
    if (function->text == kOrderedDict && items.empty()) return push(make(Kind::kDict));
    if (function->text == kRebuildTensor && items.size() >= 4) return push_tensor(items);
    if (function->text == kRebuildTyped && items.size() >= 7) return push_typed_tensor(items);
    if (function->text == kRebuildParameter && !items.empty() && items[0]->kind == Kind::kTensor) return push(items[0]);
    throw Refused("it calls " + function->text + " in an unknown way");
  }
  void push_tensor(const std::vector<PicklePtr>& items) {
    if (items[0]->kind != Kind::kStorage || items[1]->kind != Kind::kInt)
      throw Refused("its tensor record is malformed");
    PicklePtr value = make(Kind::kTensor);
    value->tensor = items[0]->tensor;
    value->tensor.offset = items[1]->integer;
    value->tensor.shape = integers(items[2]);
    value->tensor.strides = integers(items[3]);
    push(value);
  }
  // (storage, offset, size, stride, requires_grad, hooks, dtype, ...); an untyped storage counts bytes.
  void push_typed_tensor(const std::vector<PicklePtr>& items) {
    if (items[6]->kind != Kind::kGlobal || !element_types().contains(items[6]->text))
      throw Refused("its tensor record names an unknown type");
    push_tensor(items);
    PickledTensor& tensor = top()->tensor;
    tensor.dtype = element_types().at(items[6]->text);
    if (items[0]->untyped) {
      tensor.storage_elements /= static_cast<int64_t>(dtype_bytes(tensor.dtype));
    } else if (dtype_bytes(tensor.dtype) != dtype_bytes(items[0]->tensor.dtype)) {
      throw Refused("its tensor record and its storage differ in type");
    }
  }
  static std::vector<int64_t> integers(const PicklePtr& tuple) {
    std::vector<int64_t> values;
    if (tuple->kind != Kind::kTuple) throw Refused("its tensor record is malformed");
    for (const PicklePtr& item : tuple->items) {
      if (item->kind != Kind::kInt) throw Refused("its tensor record is malformed");
      values.push_back(item->integer);
    }
    return values;
  }
  // A state dictionary's attributes (_metadata): taken and dropped.
  void build() {
    PicklePtr state = pop();
    if (top()->kind != Kind::kDict || state->kind != Kind::kDict)
      throw Refused("its pickle sets the state of an object that is no dictionary");
  }

  const std::string& bytes_;
  size_t at_ = 0, values_ = 0;
  std::vector<PicklePtr> stack_;
  std::map<uint64_t, PicklePtr> memo_;
};

}  // namespace

Expected<PicklePtr> read_pickle(const std::string& bytes, const std::string& where) {
  try {
    return Machine(bytes).run();
  } catch (const Refused& refused) {
    return corrupt(where + ": refused: " + refused.what());
  }
}

}  // namespace liveavatar
