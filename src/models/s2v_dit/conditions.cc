// What a forward is conditioned on beside the audio: the timestep and the prompt. Each is computed where it is new, by
// the first forward that needs it, so that weights are read for forwards alone.
#include <algorithm>
#include <cmath>

#include "models/s2v_dit/s2v_dit.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/transfer.h"

namespace liveavatar {
namespace {

// [freq]: cosines, then sines.
void fill_sinusoid(double timestep, std::span<float> values) {
  size_t half = values.size() / 2;
  for (size_t k = 0; k < half; ++k) {
    double angle = timestep * std::pow(10000.0, -double(k) / double(half));
    values[k] = static_cast<float>(std::cos(angle));
    values[half + k] = static_cast<float>(std::sin(angle));
  }
}

}  // namespace

// Sinusoid of the timestep -> embedding e [1, D], once for each timestep of a video.
void S2vDit::encode_time(double timestep, TimeRows& rows, ForwardState& f) const {
  f.time = &rows;
  if (rows.timestep == timestep) return;
  DitActivations& a = f.session->activations;
  fill_sinusoid(timestep, Upload(backend_, a.sinusoid).values());
  ops::linear(backend_, a.sinusoid, weights_.common.time_in, a.time_hidden, {.activation = Activation::kSilu});
  ops::linear(backend_, a.time_hidden, weights_.common.time_out, rows.embedding);
  rows.timestep = timestep;
  rows.projected = false;
}

// e -> the six modulation rows e0 [6, D] of new timesteps.
void S2vDit::project_time(DitWeightGroups& weights, std::span<ForwardState* const> forwards) const {
  if (!uses_of(forwards).time) return;
  for (int64_t row = 0; row < kModulationRows; ++row) {
    const DitWeightGuard<DitTimeWeights> group(weights, backend_, static_cast<size_t>(row));
    for (ForwardState* f : forwards) {
      if (f->time->projected) continue;
      const Tensor act = f->session->activations.time_act;
      ops::activate(backend_, f->time->embedding, Activation::kSilu, act);
      ops::linear(backend_, act, group->project, f->time->projection.slice(row, 1));
    }
  }
  for (ForwardState* f : forwards) f->time->projected = true;
}

// What a pass with these forwards reads.
DitUses S2vDit::uses_of(std::span<ForwardState* const> forwards) const {
  auto some_missing = [](const std::vector<char>& ready) { return std::ranges::find(ready, 0) != ready.end(); };
  DitUses uses;
  for (const ForwardState* f : forwards) {
    uses.time = uses.time || !f->time->projected;
    uses.prompt = uses.prompt || some_missing(f->session->caches.text_ready);
    for (const AudioTokens& actor : f->audio()) uses.audio_keys = uses.audio_keys || some_missing(actor.ready);
  }
  return uses;
}

void S2vDit::encode_text(const Tensor& rows, DitSession& session) const {
  DitActivations& a = session.activations;
  DitCaches& caches = session.caches;
  LA_CHECK(rows.dim(0) <= config_.text_len && rows.dim(1) == config_.text_dim);
  ops::fill(backend_, a.text_rows, 0);  // rows after the prompt are zeros, and attention includes them
  ops::copy(backend_, rows, a.text_rows.slice(0, rows.dim(0)));
  caches.prompt_ready = false;
  std::fill(caches.text_ready.begin(), caches.text_ready.end(), false);
}

// The embedding of new prompts.
void S2vDit::embed_prompt(DitWeightGroups& weights, std::span<ForwardState* const> forwards) const {
  std::vector<DitSession*> missing;
  for (const ForwardState* f : forwards)
    if (!f->session->caches.prompt_ready) missing.push_back(f->session);
  if (missing.empty()) return;
  {
    const DitWeightGuard<DitPromptInWeights> group(weights, backend_, kModulationRows);
    for (DitSession* s : missing)
      ops::linear(backend_, s->activations.text_rows, group->in, s->activations.text_hidden,
                  {.activation = Activation::kGeluTanh});
  }
  const DitWeightGuard<DitPromptOutWeights> group(weights, backend_, kModulationRows + 1);
  for (DitSession* s : missing) {
    ops::linear(backend_, s->activations.text_hidden, group->out, s->caches.prompt);
    s->caches.prompt_ready = true;
    observe(*s, "text_embedding", s->caches.prompt);
  }
}

// Keys and values of a cross-attention.
void S2vDit::project_keys(const DitKeyWeights& w, const Tensor& x, const KeyValues& to) const {
  ops::linear(backend_, x, w.k, to.k);
  ops::rms_norm(backend_, to.k, config_.eps, w.norm_k, to.k);
  ops::linear(backend_, x, w.v, to.v);
}

// Those of new prompts for this layer.
void S2vDit::project_text(int64_t layer, DitWeightGroups& weights, std::span<ForwardState* const> forwards) const {
  const auto i = static_cast<size_t>(layer);
  auto is_ready = [i](const ForwardState* f) { return f->session->caches.text_ready[i] != 0; };
  if (std::ranges::all_of(forwards, is_ready)) return;
  const DitWeightGuard group = acquire<DitTextKeyWeights>(weights, layer);
  for (ForwardState* f : forwards) {
    if (is_ready(f)) continue;
    DitCaches& caches = f->session->caches;
    project_keys(*group, caches.prompt, caches.text.layers[i]);
    caches.text_ready[i] = true;
  }
}

}  // namespace liveavatar
