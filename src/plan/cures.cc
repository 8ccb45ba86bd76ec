#include "plan/cures.h"

#include <algorithm>

#include "media/image.h"

namespace liveavatar {
namespace {

// Areas to try, from large to small.
constexpr const char* kSizes[] = {"1280*704", "1024*704", "832*480", "704*384", "640*384", "512*384",
                                  "384*256",  "256*256",  "192*128", "128*128", "64*64"};

struct Change {
  std::string flags, costs;
  PlanRequest request;
};

class Search {
 public:
  Search(const PlanRequest& request, size_t budget_bytes) : request_(request), budget_bytes_(budget_bytes) {}

  Expected<std::vector<Cure>> run() {
    LA_ASSIGN_OR_RETURN(MemoryPlan now, plan_memory(request_));
    if (now.peak_bytes <= budget_bytes_) return cures_;
    std::vector<Change> all = changes(request_);
    for (const Change& change : all) LA_RETURN_IF_ERROR(take_if_fits(change));
    LA_RETURN_IF_ERROR(try_smaller(request_, "", "a smaller picture"));
    if (cures_.empty() && !all.empty()) {  // no single change is enough: all of them, then a smaller picture on top
      Change together = all_together();
      LA_RETURN_IF_ERROR(take_if_fits(together));
      if (cures_.empty()) {
        LA_RETURN_IF_ERROR(try_smaller(together.request, together.flags, together.costs + ", a smaller picture"));
      }
    }
    cures_.push_back({"--memory_budget " + mib_text(now.peak_bytes), "more memory", now.peak_bytes});
    add_future(now);
    return cures_;
  }

 private:
  // Cheapest first: equal frames, then less exact ones, then a shorter past.
  static std::vector<Change> changes(const PlanRequest& from) {
    std::vector<Change> list;
    if (!from.online_decode && from.blocks > 1) {
      list.push_back({"--enable_online_decode", "nothing: the frames are equal", from});
      list.back().request.online_decode = true;
    }
    if (!from.packed) {
      list.push_back({"--paging_dir DIR", "time: layers are read from disk; DIR takes the packed weights", from});
      list.back().request.packed = list.back().request.pack_first = true;
    }
    if (from.dtype == "f32") {
      list.push_back({"--dtype bf16", "values rounded to bf16, as the original has them", from});
      list.back().request.dtype = "bf16";
    }
    if (from.clip_frames > 24) {
      list.push_back(
          {"--infer_frames 24", "the model sees one second of its past; --num_clip counts shorter clips", from});
      list.back().request.clip_frames = 24;
    }
    return list;
  }

  Change all_together() const {
    Change sum{"", "", request_};
    for (std::vector<Change> left = changes(sum.request); !left.empty(); left = changes(sum.request)) {
      const Change& next = left.front();
      sum = {sum.flags + (sum.flags.empty() ? "" : " ") + next.flags,
             sum.costs + (sum.costs.empty() ? "" : ", ") + next.costs, next.request};
    }
    return sum;
  }

  Status take_if_fits(const Change& change) {
    LA_ASSIGN_OR_RETURN(PlanRequest settled, settle(change.request, budget_bytes_));
    LA_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(settled));
    if (plan.peak_bytes <= budget_bytes_) cures_.push_back({change.flags, change.costs, plan.peak_bytes});
    return {};
  }

  // The largest smaller picture that fits.
  Status try_smaller(const PlanRequest& from, const std::string& flags, const std::string& costs) {
    size_t before = cures_.size();
    for (const char* size : kSizes) {
      LA_ASSIGN_OR_RETURN(int64_t area, parse_size(size));
      if (area >= from.height * from.width) continue;
      auto sides = working_size(from.picture_height, from.picture_width, area);
      if (!sides.ok()) break;  // this portrait has no smaller shape
      Change change{flags + (flags.empty() ? "" : " ") + "--size \"" + size + "\"", costs, from};
      change.request.height = sides->height;
      change.request.width = sides->width;
      LA_RETURN_IF_ERROR(take_if_fits(change));
      if (cures_.size() > before) break;
    }
    return {};
  }

  // Ways that the engine does not have: their gain is estimated, and they are marked.
  void add_future(const MemoryPlan& now) {
    size_t weights = now.peak_by_tenant[size_t(Tenant::kWeights)], kv = now.peak_by_tenant[size_t(Tenant::kKvCache)];
    size_t shrinks = request_.dtype == "f32" ? 4 : 2;  // a byte a value instead of these
    auto add = [&](const char* flags, const char* costs, size_t saved) {
      if (now.peak_bytes - saved <= budget_bytes_) cures_.push_back({flags, costs, now.peak_bytes - saved, false});
    };
    add("8-bit weights", "not yet in this version", weights - weights / shrinks);
    add("8-bit keys and values", "not yet in this version", kv - kv / shrinks);
  }

  const PlanRequest& request_;
  size_t budget_bytes_;
  std::vector<Cure> cures_;
};

}  // namespace

std::string mib_text(size_t bytes) { return std::to_string((bytes + (size_t{1} << 20) - 1) >> 20) + "MiB"; }

Expected<std::vector<Cure>> find_cures(const PlanRequest& request, size_t budget_bytes) {
  return Search(request, budget_bytes).run();
}

}  // namespace liveavatar
