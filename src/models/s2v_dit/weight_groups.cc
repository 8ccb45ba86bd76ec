#include "models/s2v_dit/weight_groups.h"

namespace liveavatar {

bool DitUses::of(DitPart part) const {
  switch (reading_of(part)) {
    case DitReading::kAlways:
      return audio || part != DitPart::kAudioAttention;
    case DitReading::kNewBlock:
      return audio_keys;
    case DitReading::kNewPrompt:
      return prompt;
    case DitReading::kNewTimestep:
      return time;
  }
  LA_CHECK(false);
}

}  // namespace liveavatar
