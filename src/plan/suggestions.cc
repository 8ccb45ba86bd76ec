#include "plan/suggestions.h"

#include <algorithm>

#include "media/image.h"

namespace liveavatar {
namespace {

// Areas to try, largest first.
constexpr const char* kSizes[] = {"1280*704", "1024*704", "832*480", "704*384", "640*384", "512*384",
                                  "384*256",  "256*256",  "192*128", "128*128", "64*64"};

struct Change {
  std::string settings, costs;
  JobShape request;
};

class Search {
 public:
  Search(const JobShape& request, const MemoryLimits& limits) : request_(request), limits_(limits) {}

  Expected<std::vector<Suggestion>> run() {
    LA_ASSIGN_OR_RETURN(const JobShape resolved, resolve_shape(request_, limits_));
    LA_ASSIGN_OR_RETURN(const MemoryPlan now, plan_memory(resolved));
    if (limits_.keeps({now, {}})) return suggestions_;
    std::vector<Change> all = changes(request_);
    for (const Change& change : all) LA_RETURN_IF_ERROR(add_if_fits(change));
    LA_RETURN_IF_ERROR(try_smaller(request_, "", "a smaller image"));
    if (suggestions_.empty() && !all.empty()) LA_RETURN_IF_ERROR(try_together());
    suggestions_.push_back(more_memory(now));
    return suggestions_;
  }

 private:
  Suggestion more_memory(const MemoryPlan& now) const {
    Suggestion more{"", "more memory", now.peak_bytes};
    const bool of_device = limits_.device_bytes != 0 && now.peak_bytes > limits_.device_bytes;
    const bool of_host = limits_.host_bytes != 0 && now.host.peak_bytes > limits_.host_bytes;
    if (of_device) more.settings = "`memory_budget_bytes` " + mib_text(now.peak_bytes);
    if (of_device && of_host) more.settings += " + ";
    if (of_host) more.settings += "`host_budget_bytes` " + mib_text(now.host.peak_bytes);
    return more;
  }

  // Narrower weights than the request's, the widest first.
  static std::vector<Change> narrower_weights(const JobShape& from) {
    std::vector<Change> list;
    auto add = [&](WeightsType type, const char* costs) {
      // int8 activations need int8 weights: narrower weights turn them off.
      list.push_back({std::string("`weights_dtype` ") + weights_type_name(type) +
                          (from.int8_products ? " + `int8_products` false" : ""),
                      costs, from});
      list.back().request.weights_dtype = type;
      list.back().request.int8_products = false;
    };
    const bool whole = from.weights_dtype == WeightsType::kSameAsDtype || from.weights_dtype == WeightsType::kBf16;
    if (whole) add(WeightsType::kInt8, "8-bit weights: frames differ little (docs/quantisation.md)");
    if (from.weights_dtype != WeightsType::kQ4)
      add(WeightsType::kQ4, "4-bit weights: frames differ (docs/quantisation.md)");
    return list;
  }

  // Cheapest first: equal frames, then less exact ones, then shorter KV caches.
  static std::vector<Change> changes(const JobShape& from) {
    std::vector<Change> list;
    if (!from.online_decode && from.blocks > 1) {
      list.push_back({"`online_decode` true", "nothing: the frames are equal", from});
      list.back().request.online_decode = true;
    }
    if (from.decodes_beside() && from.beside_host_memory()) {
      list.push_back({"`decode_beside` false", "time: a block is decoded before the next is sampled", from});
      list.back().request.decode_beside = false;
    }
    if (!from.disk_kv_caches || !from.packed) {
      list.push_back(
          {"`paging_dir` DIR", "time: what does not fit is read from disk; DIR takes the packed weights", from});
      list.back().request.disk_kv_caches = true;
      list.back().request.pack_first |= !from.packed;
      list.back().request.packed = true;
      list.back().request.layers_in_host = false;
    }
    if (from.dtype == ComputeType::kF32) {
      list.push_back({"`dtype` bf16", "values rounded to bf16, as the original has them", from});
      list.back().request.dtype = ComputeType::kBf16;
    }
    std::vector<Change> weights = narrower_weights(from);
    list.insert(list.end(), weights.begin(), weights.end());
    if (from.kv_dtype == KvType::kSameAsDtype || from.kv_dtype == KvType::kBf16) {
      list.push_back({"`kv_dtype` int8", "8-bit keys and values: frames differ little (docs/quantisation.md)", from});
      list.back().request.kv_dtype = KvType::kInt8;
    }
    if (from.clip_frames > 24) {
      list.push_back({"`infer_frames` 24",
                      "shorter KV caches: the model attends to one second; `num_clip` counts shorter clips", from});
      list.back().request.clip_frames = 24;
    }
    return list;
  }

  // No single change is enough: adds one after the other until the job fits. First those that keep weights and clip
  // length; then with narrower weights; then with the narrowest; then with a smaller image too.
  Status try_together() {
    std::vector<Change> bases = narrower_weights(request_);
    bases.insert(bases.begin(), {"", "", request_});
    for (Change& base : bases) {
      while (add_next(base)) {
        bool keeps_length = base.request.clip_frames == request_.clip_frames;
        if (&base == &bases.front() && bases.size() > 1 && !keeps_length) break;
        LA_RETURN_IF_ERROR(add_if_fits(base));
        if (!suggestions_.empty()) return {};
      }
    }
    const Change& most = bases.back();
    return try_smaller(most.request, most.settings, most.costs + ", a smaller image");
  }

  // Adds the cheapest change that is left and keeps the weights; false: none.
  static bool add_next(Change& sum) {
    std::vector<Change> left = changes(sum.request);
    auto next = std::find_if(left.begin(), left.end(),
                             [&](const Change& c) { return c.request.weights_dtype == sum.request.weights_dtype; });
    if (next == left.end()) return false;
    sum = {sum.settings + (sum.settings.empty() ? "" : " + ") + next->settings,
           sum.costs + (sum.costs.empty() ? "" : ", ") + next->costs, next->request};
    return true;
  }

  Status add_if_fits(const Change& change) {
    LA_ASSIGN_OR_RETURN(JobShape resolved, resolve_shape(change.request, limits_));
    LA_ASSIGN_OR_RETURN(SessionsPlan plan, plan_sessions(resolved, 1));
    if (limits_.keeps(plan)) suggestions_.push_back({change.settings, change.costs, plan.peak_bytes()});
    return {};
  }

  // The largest smaller image that fits.
  Status try_smaller(const JobShape& from, const std::string& settings, const std::string& costs) {
    size_t before = suggestions_.size();
    for (const char* size : kSizes) {
      LA_ASSIGN_OR_RETURN(int64_t area, parse_size(size));
      if (area >= from.height * from.width) continue;
      auto sides = working_size(from.image_height, from.image_width, area);
      if (!sides.ok()) break;  // this portrait has no smaller shape
      Change change{settings + (settings.empty() ? "" : " + ") + "`size` \"" + size + "\"", costs, from};
      change.request.height = sides->height;
      change.request.width = sides->width;
      LA_RETURN_IF_ERROR(add_if_fits(change));
      if (suggestions_.size() > before) break;
    }
    return {};
  }

  const JobShape& request_;
  MemoryLimits limits_;
  std::vector<Suggestion> suggestions_;
};

}  // namespace

std::string mib_text(size_t bytes) { return std::to_string((bytes + (size_t{1} << 20) - 1) >> 20) + "MiB"; }

Expected<std::vector<Suggestion>> find_suggestions(const JobShape& request, const MemoryLimits& limits) {
  return Search(request, limits).run();
}

}  // namespace liveavatar
