// The text encoder: ids to rows, text to rows, the position table's buckets.
#include <algorithm>
#include <stdexcept>

#include "golden.h"
#include "models/umt5/tokenizer.h"
#include "models/umt5/umt5.h"

namespace liveavatar::golden {

void check_umt5(const Golden& golden) {
  auto weights = open_safetensors(golden.path("weights.safetensors"));
  if (!weights.ok()) throw std::runtime_error(weights.status().message());
  auto model = Umt5::load(**weights, *golden.backend, golden.dtype);
  if (!model.ok()) throw std::runtime_error(model.status().message());
  auto tokenizer = Tokenizer::load(golden.path(golden.config().at("tokenizer")));
  if (!tokenizer.ok()) throw std::runtime_error(tokenizer.status().message());
  for (const auto& call : golden.calls()) {
    std::string op = call.at("op");
    if (op == "position_bucket") {
      std::vector<int32_t> distance = golden.i32(call.at("in").at("distance")),
                           want = golden.i32(call.at("out").at("index"));
      for (int32_t& d : distance) d = static_cast<int32_t>(position_bucket(d, golden.config().at("num_buckets")));
      golden.exact("position_bucket", distance == want);
      continue;
    }
    std::vector<int32_t> ids;
    if (op == "encode_ids") {
      ids = golden.i32(call.at("in").at("ids"));
      ids.resize(call.at("args").at("tokens"));
    } else if (op == "encode_text") {
      ids = (*tokenizer)->encode(call.at("args").at("text").get<std::string>(), golden.config().at("text_len"));
    } else {
      throw std::runtime_error("unknown op '" + op + "'");
    }
    auto rows = (*model)->encode(ids, *golden.budget);
    if (golden.ok(call.at("out").at("rows"), rows.status())) golden.compare(call.at("out").at("rows"), rows->tensor);
  }
}

}  // namespace liveavatar::golden
