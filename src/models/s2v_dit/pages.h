// Where the weights of the layers live: in memory, or on disk until a forward comes by. The forward does not know. One
// pass over the layers at a time.
#pragma once

#include "models/s2v_dit/weights.h"
#include "paging/pager.h"

namespace liveavatar {

class DitPages {
 public:
  virtual ~DitPages() = default;
  // The weights of a page, by its place in dit_pages(): there until it is let go. Waits for the disk if it must.
  virtual const DitPageWeights& pin(size_t page) = 0;
  // used: behind the ops that read it.
  virtual void release(size_t page, Event used) = 0;
  // Which way the forwards to come go over the pages, again and again: all of them in order, or without the injectors.
  enum class Way { kAll, kWithoutInjectors };
  virtual void expect(Way way) = 0;
  virtual PagingCounts counts() const { return {}; }
  virtual bool direct() const { return false; }  // whether disks are read past the page cache
  // The first failure sticks; from then on pinned pages hold anything, and forwards do nothing.
  virtual Status status() const = 0;
};

// A page for the length of a scope. Asserts that it holds a part with these weights.
template <typename Weights>
class DitPin {
 public:
  DitPin(DitPages& pages, WorkQueue& queue, size_t page)
      : pages_(pages), queue_(queue), page_(page), weights_(std::get_if<Weights>(&pages.pin(page))) {
    LA_CHECK(weights_ != nullptr);
  }
  ~DitPin() { pages_.release(page_, queue_.record()); }
  DitPin(const DitPin&) = delete;
  DitPin& operator=(const DitPin&) = delete;
  const Weights& operator*() const { return *weights_; }
  const Weights* operator->() const { return weights_; }

 private:
  DitPages& pages_;
  WorkQueue& queue_;
  size_t page_;
  const Weights* weights_;
};

// Everything in memory.
class ResidentPages : public DitPages {
 public:
  explicit ResidentPages(const std::vector<DitPageWeights>& pages) : pages_(pages) {}
  const DitPageWeights& pin(size_t page) override { return pages_[page]; }
  void release(size_t, Event) override {}
  void expect(Way) override {}
  Status status() const override { return {}; }

 private:
  const std::vector<DitPageWeights>& pages_;
};

}  // namespace liveavatar
