// "I have this card: run that, expect so much." Of the 14B model, by planning what could be run.
#pragma once

#include "plan/prediction.h"

namespace liveavatar {

// Host memory that a machine with a card gives: 32 GiB without what a system and its programs take.
constexpr size_t kAdvisedHostBytes = size_t{24} << 30;

// A minute of video with a voice, of one size on one card.
struct CardAdvice {
  DeviceProfile device;
  std::string size;         // as the flag takes it
  size_t budget_bytes = 0;  // the card's memory, in whole MiB
  bool fits = false;        // else the rest has no meaning
  JobShape shape;
  MemoryPlan plan;
  Work work;
  Prediction prediction;
};
// For each card of card_profiles(), for each size.
Expected<std::vector<CardAdvice>> advise_cards();

}  // namespace liveavatar
