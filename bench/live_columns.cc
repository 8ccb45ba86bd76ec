// How a live session hears against the whole voice, over look-ahead and context: the table of docs/live.md.
//   live_columns [CHECKPOINT [PORTRAIT [VOICE]]]
#include "session/live_columns.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "pipeline/engine.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;

// A voice, all of it, as it would be pushed.
std::vector<int16_t> read_voice(const std::string& path, int& rate_hz) {
  auto file = *AudioFile::open(path);
  rate_hz = 16000;
  auto mono = *file->mono(rate_hz);
  std::vector<float> chunk(1 << 14);
  std::vector<int16_t> all;
  for (;;) {
    const int64_t got = *mono->read(chunk.data(), std::ssize(chunk));
    if (got == 0) return all;
    for (int64_t i = 0; i < got; ++i)
      all.push_back(static_cast<int16_t>(std::lrint(std::clamp(chunk[size_t(i)], -1.0f, 1.0f) * 32767)));
  }
}

using Columns = std::vector<std::vector<float>>;  // a block each

// Columns, block after block, and the time that they take.
struct Heard : AudioColumns {
  AudioColumns& source;
  int64_t height = 0;  // hidden states of a column
  Columns blocks;
  double seconds = 0;
  Heard(AudioColumns& from, int64_t states) : source(from), height(states) {}
  int64_t count() const override { return 1; }
  Expected<bool> columns(int64_t first, int64_t count, float* out) override {
    const auto began = Clock::now();
    auto more = source.columns(first, count, out);
    seconds += std::chrono::duration<double>(Clock::now() - began).count();
    blocks.emplace_back(out, out + height * count);
    return more;
  }
};

struct Video {
  std::vector<float> mouth;  // brightness of the region that a mouth is in, frame by frame
  Columns latents;
};

double correlation(const std::vector<float>& a, const std::vector<float>& b, size_t from) {
  double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
  const auto n = double(a.size() - from);
  for (size_t i = from; i < a.size(); ++i) {
    ma += a[i] / n;
    mb += b[i] / n;
  }
  for (size_t i = from; i < a.size(); ++i) {
    ab += (a[i] - ma) * (b[i] - mb);
    aa += (a[i] - ma) * (a[i] - ma);
    bb += (b[i] - mb) * (b[i] - mb);
  }
  return ab / std::sqrt(aa * bb);
}

double relative_error(const Columns& got, const Columns& want, size_t from, size_t to) {
  double error = 0, size = 0;
  for (size_t b = from; b < to; ++b)
    for (size_t i = 0; i < want[b].size(); ++i) {
      error += std::pow(double(got[b][i]) - want[b][i], 2);
      size += std::pow(want[b][i], 2);
    }
  return std::sqrt(error / size);
}

class Table {
 public:
  Table(const std::string& checkpoint, const std::string& portrait, const std::string& voice) {
    EngineOptions options;
    options.checkpoint_dir = checkpoint;
    models_ = *load_models(*open_checkpoint(options));
    job_.image = portrait;
    job_.audio = voice;
    job_.prompt = "a person talks";
    voice_ = read_voice(voice, rate_hz_);
  }

  int run() {
    const Take whole = offline();
    const Columns at_live_times = states_at_live_times(whole.columns.size());
    std::printf("| context, s | look-ahead, ms | columns | at equal times | latents | mouth | ms a block |\n");
    std::printf("| --- | --- | --- | --- | --- | --- | --- |\n");
    for (int64_t context : {1000, 2000, 4000})
      for (int64_t look_ahead : {0, 20, 40, 80, 160, 320}) {
        const Take take = live({rate_hz_, context, look_ahead});
        const size_t to = whole.columns.size() - 1;  // the voice ends in the last
        std::printf("| %g | %d | %.3f | %.3f | %.3f | %.3f | %.1f |\n", double(context) / 1000, int(look_ahead),
                    relative_error(take.columns, whole.columns, 2, to),
                    relative_error(take.columns, at_live_times, 2, to),
                    relative_error(take.video.latents, whole.video.latents, 2, to),
                    correlation(take.video.mouth, whole.video.mouth, 24), 1000 * take.seconds);
        std::fflush(stdout);
      }
    return 0;
  }

 private:
  struct Take {
    Columns columns;
    Video video;
    double seconds = 0;  // of hearing, a block
  };
  int64_t states() const { return models_->dit->config().audio_layers * models_->dit->config().audio_dim; }

  Take offline() {
    ResolvedJob job = *resolve(resolve_options(*models_->checkpoint), job_);
    if (!hear(job).ok()) std::abort();
    loudness_ = *job.files.voices.front().heard;
    auto columns = *FileColumns::open(*models_->audio, *models_->budget, job.files.voices);
    return take(*columns);
  }
  Take live(const LiveShape& shape) {
    LiveSound sound(shape);
    if (!sound.push(voice_).ok()) std::abort();
    sound.end_speech();
    auto columns = *LiveColumns::open(*models_->audio, *models_->budget, shape, sound);
    return take(*columns);
  }
  Take take(AudioColumns& columns) {
    Heard heard(columns, states());
    Take take;
    take.video = make(heard);
    take.columns = heard.blocks;
    take.seconds = heard.seconds / double(take.columns.size());
    return take;
  }

  // The whole voice's states where a live session looks for them: the original stretches a voice by up to 20 ms.
  Columns states_at_live_times(size_t blocks) {
    std::vector<float> samples;
    for (int16_t sample : voice_) samples.push_back(loudness_.normalise(float(sample) / 32768));
    const OwnedTensor all = *models_->audio->hidden_states(samples, *models_->budget);
    const int64_t frames = all.tensor.dim(1), width = all.tensor.dim(2);
    Columns columns(blocks, std::vector<float>(size_t(states() * kBlockFrames)));
    for (size_t column = 0; column < blocks * kBlockFrames; ++column) {
      const int64_t at = 5 * std::llrint(double(column) * 1.2), low = std::min(at / 3, frames - 1);
      const int64_t high = std::min(low + 1, frames - 1);
      const float share = float(at % 3) / 3;
      for (int64_t s = 0; s < states(); ++s) {
        const float* layer = all.tensor.host<float>() + s / width * frames * width + s % width;
        columns[column / kBlockFrames][size_t(s) * kBlockFrames + column % kBlockFrames] =
            layer[low * width] * (1 - share) + layer[high * width] * share;
      }
    }
    return columns;
  }

  Video make(AudioColumns& audio) {
    ResolvedJob job = *resolve(resolve_options(*models_->checkpoint), job_);
    if (!hear(job).ok()) std::abort();
    Video video;
    RunCalls calls;
    calls.hooks.audio = &audio;
    calls.hooks.latents = [&](int64_t, const Tensor& l) {
      video.latents.emplace_back(l.host<float>(), l.host<float>() + l.elements());
    };
    calls.on_chunk = [&](const VideoChunk& c) {
      for (int64_t f = 0; f < c.frames; ++f) video.mouth.push_back(mouth(c, f));
      return true;
    };
    const Status status = run_job(*models_, job, calls);
    if (!status.ok()) std::printf("%s\n", status.message().c_str());
    return video;
  }
  static float mouth(const VideoChunk& c, int64_t frame) {
    double sum = 0;
    for (int64_t y = c.height * 9 / 16; y < c.height * 13 / 16; ++y)
      for (int64_t x = c.width * 3 / 8; x < c.width * 5 / 8; ++x)
        for (int64_t k = 0; k < 3; ++k) sum += c.rgb[((frame * c.height + y) * c.width + x) * 3 + k];
    return static_cast<float>(sum / double(c.height * c.width));
  }

  std::unique_ptr<Models> models_;
  GenerateRequest job_;
  std::vector<int16_t> voice_;
  int rate_hz_ = 16000;
  Loudness loudness_;
};

}  // namespace
}  // namespace liveavatar

int main(int argc, char** argv) {
  auto or_else = [&](int i, const char* other) { return std::string(argc > i ? argv[i] : other); };
  return liveavatar::Table(or_else(1, "models/mini"), or_else(2, "assets/demo/portrait.png"),
                           or_else(3, "assets/demo/voice.wav"))
      .run();
}
