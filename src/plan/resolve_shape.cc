#include "plan/resolve_shape.h"

#include <algorithm>

namespace liveavatar {

bool MemoryLimits::keeps(const SessionsPlan& plan) const {
  const bool on_device = device_bytes == 0 || plan.peak_bytes() <= device_bytes;
  return on_device && (host_bytes == 0 || plan.host_peak_bytes() <= host_bytes);
}

size_t smaller_limit(size_t a, size_t b) { return a == 0 || b == 0 ? std::max(a, b) : std::min(a, b); }

namespace {

// The most of 0..count with which it fits; fits(0) is known.
template <typename Fits>
Expected<int64_t> most_that_fit(int64_t count, const Fits& fits) {
  int64_t most = 0, too_many = count + 1;
  while (too_many - most > 1) {
    const int64_t middle = (most + too_many) / 2;
    LA_ASSIGN_OR_RETURN(bool good, fits(middle));
    if (good) {
      most = middle;
    } else {
      too_many = middle;
    }
  }
  return most;
}

class ShapeResolver {
 public:
  ShapeResolver(const JobShape& request, const MemoryLimits& limits, int sessions)
      : r_(request), limits_(limits), sessions_(sessions), schedule_open_(request.schedule == Schedule::kAuto) {}

  Expected<JobShape> run() {
    if (schedule_open_) r_.schedule = Schedule::kSequential;
    LA_RETURN_IF_ERROR(measure_host());
    r_.resident_kv_caches = kv_caches_asked_;
    r_.host_kv_caches = kv_caches_asked_ < 0 ? 0 : host_kv_caches_;
    if (limits_.device_bytes == 0 || (!r_.packed && !kv_caches_open())) return r_;
    LA_ASSIGN_OR_RETURN(bool all_fit, fits());
    if (all_fit) return r_;
    LA_ASSIGN_OR_RETURN(bool found, offload_kv_caches());
    if (found) return r_;
    for (Schedule schedule : {Schedule::kWavefront, Schedule::kSequential}) {
      if (schedule_open_) r_.schedule = schedule;
      const bool useless = schedule == Schedule::kWavefront && (!r_.packed || r_.blocks_in_flight() == 1);
      if (schedule_open_ && useless) continue;
      LA_ASSIGN_OR_RETURN(found, page());
      if (found || !schedule_open_) return r_;
    }
    return r_;
  }

 private:
  bool kv_caches_open() const { return kv_caches_asked_ < 0 && (r_.disk_kv_caches || r_.beside_host_memory()); }
  Expected<bool> fits() const { return keeps(limits_); }
  Expected<bool> keeps(const MemoryLimits& limits) const {
    LA_ASSIGN_OR_RETURN(SessionsPlan plan, plan_sessions(r_, sessions_));
    return limits.keeps(plan);
  }
  Expected<bool> host_fits_with(int64_t JobShape::*field, int64_t count) {
    r_.*field = count;
    return keeps({0, limits_.host_bytes});
  }

  // How many KV caches host memory beside a card has room for, with the layers where they are now.
  Status measure_host() {
    if (!r_.beside_host_memory()) return {};
    const int64_t movable = std::max<int64_t>(r_.kv_caches().count() - std::max<int64_t>(kv_caches_asked_, 0), 0);
    auto with = [&](int64_t count) {  // beside what others take on their way to disk
      r_.resident_kv_caches = r_.disk_kv_caches ? 0 : r_.kv_caches().count() - count;
      return host_fits_with(&JobShape::host_kv_caches, count);
    };
    host_kv_caches_ = movable;
    if (r_.disk_kv_caches || kv_caches_asked_ < 0) {
      LA_ASSIGN_OR_RETURN(host_kv_caches_, most_that_fit(movable, with));
    }
    return {};
  }

  void keep_kv_caches(int64_t resident) {
    r_.resident_kv_caches = resident;
    r_.host_kv_caches = std::min(r_.kv_caches().count() - resident, host_kv_caches_);
  }

  // With all weights on the device: keys and values move once a block, weights once a step.
  Expected<bool> offload_kv_caches() {
    if (!kv_caches_open() || host_kv_caches_ == 0) return false;
    return fill_kv_caches(r_.kv_caches().count() - host_kv_caches_);
  }

  // From `least` on the device, as many as fit. False: not even these.
  Expected<bool> fill_kv_caches(int64_t least) {
    auto with = [&](int64_t more) {
      keep_kv_caches(least + more);
      return fits();
    };
    LA_ASSIGN_OR_RETURN(bool any, with(0));
    if (!any) return false;
    LA_ASSIGN_OR_RETURN(int64_t most, most_that_fit(r_.kv_caches().count() - least, with));
    keep_kv_caches(least + most);
    return true;
  }

  // Weights leave the device before keys and values go to disk: those are written too, and disks wear.
  Expected<bool> page() {
    const int64_t all = r_.kv_caches().count();
    if (r_.packed) r_.resident_layers = 0;
    if (kv_caches_open()) {
      LA_RETURN_IF_ERROR(measure_host());
      keep_kv_caches(all - host_kv_caches_);
    }
    if (r_.packed) {
      LA_ASSIGN_OR_RETURN(bool any, fits_with_layers(0));
      if (any) return fill_layers();
    }
    if (!kv_caches_open() || !r_.disk_kv_caches) return false;
    LA_ASSIGN_OR_RETURN(bool any, fill_kv_caches(0));
    return any ? fill_host() : Expected<bool>(false);
  }

  Expected<bool> fits_with_layers(int64_t count) {
    r_.resident_layers = count;
    return fits();
  }

  // As many as fit; with KV caches, what is less than a layer.
  Expected<bool> fill_layers() {
    auto with = [&](int64_t count) { return fits_with_layers(count); };
    LA_ASSIGN_OR_RETURN(r_.resident_layers, most_that_fit(r_.shapes.dit.layers, with));
    if (kv_caches_open() && host_kv_caches_ > 0)
      LA_RETURN_IF_ERROR(fill_kv_caches(r_.kv_caches().count() - host_kv_caches_).status());
    return fill_host();
  }

  // With layers, what keys and values left.
  Expected<bool> fill_host() {
    if (!r_.packed || r_.layers_in_host || !r_.beside_host_memory()) return true;
    auto with = [&](int64_t count) { return host_fits_with(&JobShape::host_layers, count); };
    LA_ASSIGN_OR_RETURN(r_.host_layers, most_that_fit(r_.shapes.dit.layers - r_.resident(), with));
    return true;
  }

  JobShape r_;
  MemoryLimits limits_;
  int sessions_;
  bool schedule_open_;
  int64_t kv_caches_asked_ = r_.resident_kv_caches;
  int64_t host_kv_caches_ = 0;
};

}  // namespace

Expected<JobShape> resolve_shape(const JobShape& shape, const MemoryLimits& limits, int sessions) {
  return ShapeResolver(shape, limits, sessions).run();
}

}  // namespace liveavatar
