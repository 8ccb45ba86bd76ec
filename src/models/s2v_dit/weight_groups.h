// Access to the layers' weights in groups. A group is in memory, or on disk until a forward needs it. The forward uses
// both in the same way. One pass over the layers at a time.
#pragma once

#include "models/s2v_dit/weights.h"
#include "paging/pager.h"

namespace liveavatar {

class DitWeightGroups {
 public:
  virtual ~DitWeightGroups() = default;
  // The weights of a group, by its index in dit_weight_groups(). Valid until release(). May wait for the disk.
  virtual const DitGroupWeights& acquire(size_t group) = 0;
  // used: an event after the ops that read the weights.
  virtual void release(size_t group, Event used) = 0;
  // The order in which the next passes use the groups: all in order, or all except the audio cross-attention.
  enum class AccessOrder { kAll, kWithoutAudio };
  virtual void expect(AccessOrder order) = 0;
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

// All groups in memory.
class ResidentWeightGroups : public DitWeightGroups {
 public:
  explicit ResidentWeightGroups(const std::vector<DitGroupWeights>& groups) : groups_(groups) {}
  const DitGroupWeights& acquire(size_t group) override { return groups_[group]; }
  void release(size_t, Event) override {}
  void expect(AccessOrder) override {}
  Status status() const override { return {}; }

 private:
  const std::vector<DitGroupWeights>& groups_;
};

}  // namespace liveavatar
