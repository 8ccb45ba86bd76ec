// A pickle reader that knows tensors, numbers, strings and containers, and nothing else. It cannot execute anything:
// a global that is not on its short list ends the reading with the global's name.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "core/tensor.h"

namespace liveavatar {

// A tensor as the pickle describes it; nothing of it has been checked against the storage.
struct PickledTensor {
  std::string storage_key;
  DType dtype = DType::kF32;
  int64_t storage_elements = 0, offset = 0;
  std::vector<int64_t> shape, strides;
};

struct PickleValue;
using PicklePtr = std::shared_ptr<PickleValue>;

struct PickleValue {
  enum class Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kTuple,
    kList,
    kDict,
    kGlobal,
    kStorage,
    kTensor,
    kMark
  } kind = Kind::kNone;
  int64_t integer = 0;
  std::string text;                                    // kString, kGlobal ("module.name"), kStorage (key)
  std::vector<PicklePtr> items;                        // kTuple, kList
  std::vector<std::pair<PicklePtr, PicklePtr>> pairs;  // kDict
  PickledTensor tensor;                                // kTensor; kStorage fills key, dtype and elements
  bool untyped = false;                                // kStorage of plain bytes: elements are bytes
};

// where: for messages. The result is the pickled object.
Expected<PicklePtr> read_pickle(const std::string& bytes, const std::string& where);

}  // namespace liveavatar
