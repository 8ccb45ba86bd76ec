#include "session/voices.h"

#include <algorithm>
#include <cmath>

#include "session/job_shape.h"

namespace liveavatar {

Expected<Voice> Voice::open(const std::string& path) {
  Voice voice;
  voice.path = path;
  LA_ASSIGN_OR_RETURN(voice.file, AudioFile::open(path));
  voice.claimed_seconds = voice.file->seconds();
  return voice;
}

Status Voice::hear(const std::stop_token& stop) {
  if (heard) return {};
  LA_ASSIGN_OR_RETURN(mono, file->mono(kModelRateHz));
  LA_ASSIGN_OR_RETURN(Loudness loudness, measure_loudness(*mono, stop));
  LA_RETURN_IF_ERROR(check_voice(loudness, path));
  heard = loudness;
  return {};
}

int64_t Voice::samples() const { return heard ? heard->samples : std::llround(claimed_seconds * kModelRateHz); }

std::vector<std::string> Voice::notes() const {
  std::vector<std::string> notes;
  if (!heard) return notes;
  if (!mono->note().empty()) notes.push_back(mono->note());
  const std::string shortfall = file->shortfall(double(heard->samples) / kModelRateHz);
  if (!shortfall.empty()) notes.push_back(shortfall);
  return notes;
}

Expected<std::unique_ptr<FileColumns>> FileColumns::open(const Wav2Vec2& model, Budget& budget,
                                                         const std::vector<Voice>& voices,
                                                         const std::stop_token& stop) {
  auto columns = std::make_unique<FileColumns>();
  AudioFeaturesOptions options;
  options.fps = kFps;
  for (const Voice& voice : voices) {
    LA_CHECK(voice.heard.has_value());
    LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioFeatures> one,
                        AudioFeatures::open(model, budget, *voice.mono, *voice.heard, options));
    one->set_stop(stop);
    columns->features_.push_back(std::move(one));
  }
  return columns;
}

Expected<bool> FileColumns::columns(int64_t first, int64_t count, float* out) {
  for (const auto& features : features_) {
    LA_RETURN_IF_ERROR(features->columns(first, count, out));
    out += features->layers() * features->width() * count;
  }
  return true;
}

}  // namespace liveavatar
