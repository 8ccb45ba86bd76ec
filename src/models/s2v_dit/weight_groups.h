// Access to the layers' weights in groups. A group is in memory, or on disk until a forward needs it. The forward uses
// both in the same way. One pass over the layers at a time.
#pragma once

#include <optional>

#include "models/s2v_dit/weights.h"
#include "paging/pager.h"

namespace liveavatar {

// The groups that passes over the layers use, beside those of every forward.
struct DitUses {
  bool audio = true;                                      // the audio cross-attention; a prefill has none
  bool time = false, prompt = false, audio_keys = false;  // a new timestep, prompt, block's audio
  bool of(DitPart part) const;
  bool operator==(const DitUses&) const = default;
};

class DitWeightGroups {
 public:
  virtual ~DitWeightGroups() = default;
  // The weights of a group, by its index in dit_weight_groups(). Valid until release(). May wait for the disk.
  virtual const DitGroupWeights& acquire(size_t group) = 0;
  // used: an event after the ops that read the weights.
  virtual void release(size_t group, Event used) = 0;
  // The next passes use these, in the order of dit_weight_groups(). Some may be skipped.
  virtual void expect(const DitUses& uses) = 0;
  virtual PagingCounts counts() const { return {}; }
  virtual bool direct() const { return false; }  // whether disk reads bypass the page cache
  // The first failure. After it, acquired groups have undefined content, and forwards do nothing.
  virtual Status status() const = 0;
};

// Acquires a group for a scope. Asserts that the group has weights of this type.
template <typename Weights>
class DitWeightGuard {
 public:
  DitWeightGuard(DitWeightGroups& groups, WorkQueue& queue, size_t group)
      : groups_(groups), queue_(queue), group_(group), weights_(std::get_if<Weights>(&groups.acquire(group))) {
    LA_CHECK(weights_ != nullptr);
  }
  ~DitWeightGuard() { groups_.release(group_, queue_.record()); }
  DitWeightGuard(const DitWeightGuard&) = delete;
  DitWeightGuard& operator=(const DitWeightGuard&) = delete;
  const Weights& operator*() const { return *weights_; }
  const Weights* operator->() const { return weights_; }

 private:
  DitWeightGroups& groups_;
  WorkQueue& queue_;
  size_t group_;
  const Weights* weights_;
};

// Two groups, one after the other. together: the first is used again after the second, so both stay; else the first is
// released when the second is asked for.
template <typename First, typename Second>
class DitWeightPair {
 public:
  // group: the first; the second follows it.
  DitWeightPair(DitWeightGroups& groups, WorkQueue& queue, size_t group, bool together)
      : groups_(groups), queue_(queue), group_(group), together_(together) {
    first_.emplace(groups_, queue_, group_);
  }
  const First& first() const {
    LA_CHECK(first_.has_value());
    return **first_;
  }
  const Second& second() {
    if (!together_) first_.reset();
    if (!second_) second_.emplace(groups_, queue_, group_ + 1);
    return **second_;
  }

 private:
  DitWeightGroups& groups_;
  WorkQueue& queue_;
  size_t group_;
  bool together_;
  std::optional<DitWeightGuard<First>> first_;
  std::optional<DitWeightGuard<Second>> second_;
};
using DitSelfAttentionGroups = DitWeightPair<DitSelfAttentionWeights, DitSelfOutputWeights>;
using DitFfnGroups = DitWeightPair<DitFfnInWeights, DitFfnOutWeights>;

// All groups in memory.
class ResidentWeightGroups : public DitWeightGroups {
 public:
  explicit ResidentWeightGroups(const std::vector<DitGroupWeights>& groups) : groups_(groups) {}
  const DitGroupWeights& acquire(size_t group) override { return groups_[group]; }
  void release(size_t, Event) override {}
  void expect(const DitUses&) override {}
  Status status() const override { return {}; }

 private:
  const std::vector<DitGroupWeights>& groups_;
};

}  // namespace liveavatar
