#include "voice/espeak_voice.h"

#include <mutex>
#include <utility>

#include "core/plugin.h"
#include "core/program_memory.h"

namespace liveavatar {
namespace {

// The library, what it is linked to, its phonemes and a dictionary: 5.2 MiB measured with English, 7.2 with Russian,
// whose dictionary is the largest.
constexpr size_t kEspeakBytes = size_t{15} << 19;

Expected<std::shared_ptr<Synthesizer>> load() {
  const std::string file = find_plugin("espeak");
  if (file.empty()) return unsupported("built without espeak-ng: install libespeak-ng-dev and build again");
  LA_ASSIGN_OR_RETURN(void* factory,
                      load_plugin(file, {kEspeakVersion, kEspeakFactory}, "install libespeak-ng1 and espeak-ng-data"));
  Expected<std::shared_ptr<Synthesizer>> made = invalid_argument("not made");
  reinterpret_cast<EspeakFactory*>(factory)(&made);
  return made;
}

// The library has one state, so the engine is one.
Expected<std::shared_ptr<Synthesizer>> engine() {
  static std::mutex mutex;
  static std::shared_ptr<Synthesizer> made;
  std::lock_guard lock(mutex);
  if (!made) {
    LA_ASSIGN_OR_RETURN(made, load());
    add_loaded_library(kEspeakBytes);
  }
  return made;
}

// The engine with a default voice.
class NamedSynthesizer final : public Synthesizer {
 public:
  NamedSynthesizer(std::shared_ptr<Synthesizer> engine, std::string voice)
      : engine_(std::move(engine)), voice_(std::move(voice)) {}
  Status speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) override {
    return engine_->speak({text.text, text.voice.empty() ? voice_ : text.voice}, sink, stop);
  }

 private:
  const std::shared_ptr<Synthesizer> engine_;
  const std::string voice_;
};

}  // namespace

Expected<std::shared_ptr<Synthesizer>> open_espeak(const std::string& voice) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<Synthesizer> espeak, engine());
  const std::string name = voice.empty() ? "en" : voice;
  // Tells whether there is such a voice.
  const PcmSink drop = [](std::span<const int16_t>, int) { return true; };
  LA_RETURN_IF_ERROR(espeak->speak({"a", name}, drop, {}));
  return std::shared_ptr<Synthesizer>(std::make_shared<NamedSynthesizer>(std::move(espeak), name));
}

}  // namespace liveavatar
