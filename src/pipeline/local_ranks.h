// The ranks of one process beside its lead: each with models of its own, and a thread while a video is made.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/rank_run.h"
#include "session/models.h"

namespace liveavatar {

class LocalRanks {
 public:
  // Loads the others' models. lead: the models of rank 0, which outlive this object. devices: of all ranks.
  static Expected<std::unique_ptr<LocalRanks>> open(Models& lead, const std::vector<std::string>& devices);
  ~LocalRanks();

  // Starts the ranks for one video and returns the lead's end.
  Group& begin();
  // Waits for them. After a failure of the group, or when the video is made.
  void end();

 private:
  class Peers;
  explicit LocalRanks(const std::vector<std::string>& devices);
  void connect_shards(Models& lead);

  std::vector<std::string> devices_;
  std::vector<std::unique_ptr<Models>> models_;  // of ranks 1, 2, ...
  std::unique_ptr<Peers> peers_;                 // of shares of the weights
  std::vector<std::unique_ptr<Group>> groups_;   // of all ranks, of the video that is made
  std::vector<std::jthread> threads_;
};

}  // namespace liveavatar
