#include "models/s2v_dit/s2v_dit.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/s2v_dit/positions.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/rope.h"

namespace liveavatar {

namespace {

Modulation modulate(const Tensor& modulation, int64_t shift_row) {
  return {modulation.slice(shift_row, 1), modulation.slice(shift_row + 1, 1)};
}

// Latent frames [first, first + count) of motion [C, 19, H, W] -> [C, count, H, W].
Tensor newest_latents(const Tensor& motion, int64_t first, int64_t count, DitActivations& a) {
  int64_t channels = motion.dim(0), plane = motion.dim(2) * motion.dim(3);
  Tensor part(a.motion_part.data, {channels, count, motion.dim(2), motion.dim(3)}, DType::kF32);
  for (int64_t c = 0; c < channels; ++c) {
    std::memcpy(part.f32() + c * count * plane, motion.f32() + (c * motion.dim(1) + first) * plane,
                static_cast<size_t>(count * plane) * sizeof(float));
  }
  return part;
}

float attention_scale(const DitConfig& config) { return 1.0f / std::sqrt(static_cast<float>(config.head_dim())); }

// Attention to many keys: in 8 bits where the weights are, if the backend does that.
AttentionSpec wide_attention(const DitConfig& config, const DitTypes& types) {
  return {.heads = config.heads, .scale = attention_scale(config), .in_8bit = types.weights == DType::kI8};
}

}  // namespace

S2vDit::S2vDit(const DitConfig& config, Backend& backend, const DitTypes& types)
    : config_(config), backend_(backend), types_(types) {
  const std::vector<DitPage> pages = dit_pages(config);
  for (size_t p = 0; p < pages.size(); ++p) {
    if (pages[p].part == DitPart::kSelfAttention) first_page_.push_back(p);
  }
}

Expected<std::unique_ptr<S2vDit>> S2vDit::load(const DitConfig& config, const TensorSource& source, Backend& backend,
                                               Budget& budget, DitTypes types) {
  std::unique_ptr<S2vDit> dit(new S2vDit(config, backend, types));
  WeightLoader loader(source, backend, budget, Tenant::kWeights, types);
  LA_ASSIGN_OR_RETURN(dit->weights_, load_dit_weights(config, loader));
  dit->resident_ = std::make_unique<ResidentPages>(dit->weights_.pages);
  dit->pages_ = dit->resident_.get();
  return dit;
}

Expected<std::unique_ptr<S2vDit>> S2vDit::open(PackedDit packed, Backend& backend, Budget& budget) {
  std::unique_ptr<S2vDit> dit(new S2vDit(packed.config, backend, packed.types));
  PageSpan span = packed.common();
  LA_ASSIGN_OR_RETURN(Buffer common, Buffer::allocate(budget, Tenant::kWeights, span.bytes));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DirectFile> file, DirectFile::open(packed.path));
  LA_RETURN_IF_ERROR(read_page(*file, span, common.data(), std::atomic<bool>(false)));
  dit->weights_.common = view_dit_common(packed.config, backend, packed.types, common.data());
  dit->weights_.buffers.push_back(std::move(common));
  dit->packed_ = std::move(packed);
  dit->budget_ = &budget;
  return dit;
}

Status S2vDit::page_in(int64_t resident) {
  if (!packed_) return {};
  page_out();
  LA_ASSIGN_OR_RETURN(paged_, PagedPages::open(*packed_, resident, backend_, *budget_));
  pages_ = paged_.get();
  return {};
}

void S2vDit::page_out() {
  if (!packed_) return;
  pages_ = nullptr;
  paged_.reset();
}

void S2vDit::observe_product(const char* group, int64_t i, const char* part, const Tensor& x, const LinearWeight& w,
                             const Tensor& scratch) {
  if (!observer_) return;
  ops::linear(backend_, x, w, scratch);
  observe(group, i, part, scratch);
}

// Sinusoid of the timestep -> embedding e [1, D] -> six modulation rows e0 [6, D].
void S2vDit::encode_time(double timestep, DitFlight& f, DitActivations& a) {
  int64_t half = config_.freq_dim / 2;
  for (int64_t k = 0; k < half; ++k) {
    double angle = timestep * std::pow(10000.0, -double(k) / double(half));
    a.sinusoid.f32()[k] = static_cast<float>(std::cos(angle));
    a.sinusoid.f32()[half + k] = static_cast<float>(std::sin(angle));
  }
  ops::linear(backend_, a.sinusoid, weights_.common.time_in, a.time_hidden, {.activation = Activation::kSilu});
  ops::linear(backend_, a.time_hidden, weights_.common.time_out, f.time);
  ops::activate(backend_, f.time, Activation::kSilu, a.time_act);
  ops::linear(backend_, a.time_act, weights_.common.time_project, f.time_projected.reshape({1, 6 * config_.dim}));
}

// tokens [n, D] = patches of latents through w, plus the row of `kind` (0 noisy, 1 reference, 2 motion).
void S2vDit::embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, int64_t kind,
                   const Tensor& tokens, DitActivations& a) {
  Tensor patches(a.patches.data, {tokens.dim(0), w.k}, DType::kF32);
  LA_CHECK(patches.elements() <= a.patches.elements());
  ops::patchify(backend_, latents, patch, patches);
  ops::linear(backend_, patches, w, tokens);
  ops::add(backend_, tokens, weights_.common.kind.slice(kind, 1).reshape({config_.dim}), tokens);
}

void S2vDit::encode_text(const Tensor& rows, DitActivations& a, DitCaches& caches) {
  LA_CHECK(rows.dim(0) <= config_.text_len && rows.dim(1) == config_.text_dim);
  std::memset(a.text_rows.data, 0, a.text_rows.bytes());  // slots behind the prompt are zero rows, and are attended to
  std::memcpy(a.text_rows.data, rows.data, rows.bytes());
  ops::linear(backend_, a.text_rows, weights_.common.text_in, a.text_hidden, {.activation = Activation::kGeluTanh});
  ops::linear(backend_, a.text_hidden, weights_.common.text_out, caches.prompt);
  if (observer_) observer_("text_embedding", caches.prompt);
  std::fill(caches.text_ready.begin(), caches.text_ready.end(), false);
}

// The prompt's keys and values for this layer, once a prompt.
void S2vDit::project_text(const Pass& p, const DitAttentionWeights& w) {
  char& ready = p.caches.text_ready[static_cast<size_t>(p.layer)];
  if (ready) return;
  const KeyValues& cache = p.caches.text.layers[static_cast<size_t>(p.layer)];
  ops::linear(backend_, p.caches.prompt, w.k, cache.k);
  ops::rms_norm(backend_, cache.k, config_.eps, w.norm_k, cache.k);
  ops::linear(backend_, p.caches.prompt, w.v, cache.v);
  ready = true;
}

// q and k normalised over the whole width, before the heads split.
void S2vDit::project(const DitAttentionWeights& w, const Tensor& y, const Tensor& q, const Tensor& k, const Tensor& v) {
  ops::linear(backend_, y, w.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.norm_q, q);
  ops::linear(backend_, y, w.k, k);
  ops::rms_norm(backend_, k, config_.eps, w.norm_k, k);
  ops::linear(backend_, y, w.v, v);
}

// Keys or values into a cache, rounded to what it holds.
void S2vDit::keep(const Tensor& x, const Tensor& cache, const Tensor& scale) {
  if (scale.empty()) return ops::copy(backend_, x, cache);
  ops::quantise(backend_, x, cache, scale);
}

// x [T, D] f32 += gate1 * SelfAttention(LN1(x) modulated); `attend` decides what it looks at.
template <typename Attend>
void S2vDit::self_attention(const Pass& p, const DitAttentionWeights& w, DitFlight& f, const Tensor& x,
                            const Attend& attend) {
  DitActivations& a = p.a;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), k = a.k.slice(0, tokens), v = a.v.slice(0, tokens);
  Tensor attended = a.attended.slice(0, tokens);
  modulation(p, f);
  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.modulation, 0));
  project(w, y, q, k, v);
  attend(q, k, v, attended);
  observe_product("block", p.layer, ".self_attn", attended, w.o, q);
  ops::linear(backend_, attended, w.o, x, {.gate = a.modulation.slice(2, 1), .residual = x});
}

// x += CrossAttention(LN3(x), prompt)
void S2vDit::cross_attention(const Pass& p, const DitPageWeights& w, const Tensor& x) {
  DitActivations& a = p.a;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), attended = a.attended.slice(0, tokens);
  project_text(p, w.attention);
  ops::layer_norm_affine(backend_, x, config_.eps, w.norm3_weight, w.norm3_bias, y);
  ops::linear(backend_, y, w.attention.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.attention.norm_q, q);
  const KeyValues text = p.caches.text.layers[static_cast<size_t>(p.layer)];
  ops::attention(backend_, q, {&text, 1}, wide_attention(config_, types_), attended);
  observe_product("block", p.layer, ".cross_attn", attended, w.attention.o, q);
  ops::linear(backend_, attended, w.attention.o, x, {.residual = x});
}

// x += gate2 * FFN(LN2(x) modulated)
void S2vDit::feed_forward(const Pass& p, const DitPageWeights& w, DitFlight& f, const Tensor& x) {
  DitActivations& a = p.a;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), hidden = a.hidden.slice(0, tokens);
  modulation(p, f);
  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.modulation, 3));
  ops::linear(backend_, y, w.ffn_in, hidden, {.activation = Activation::kGeluTanh});
  observe_product("block", p.layer, ".ffn", hidden, w.ffn_out, q);
  ops::linear(backend_, hidden, w.ffn_out, x, {.gate = a.modulation.slice(5, 1), .residual = x});
}

// shift1, scale1, gate1, shift2, scale2, gate2 of this layer at the flight's time.
void S2vDit::modulation(const Pass& p, const DitFlight& f) {
  ops::add(backend_, weights_.common.modulation[static_cast<size_t>(p.layer)], f.time_projected, p.a.modulation);
}

void S2vDit::prefill(const DitGeometry& g, const Tensor& reference, const Tensor& motion, DitActivations& a,
                     DitCaches& caches) {
  const DitCommonWeights& w = weights_.common;
  DitFlight& f = a.flights.front();
  Tensor x = f.x.slice(0, g.cond_tokens());
  int64_t n = g.latent_tokens();
  embed(reference, kPatch, w.patch, 1, x.slice(0, n), a);
  // Newest motion latents first: one at full resolution, two at half, sixteen at a quarter.
  embed(newest_latents(motion, 18, 1, a), kPatch, w.pack_1x, 2, x.slice(n, n), a);
  embed(newest_latents(motion, 16, 2, a), kPatch2x, w.pack_2x, 2, x.slice(2 * n, g.tokens_2x()), a);
  embed(newest_latents(motion, 0, 16, a), kPatch4x, w.pack_4x, 2, x.slice(2 * n + g.tokens_2x(), g.tokens_4x()), a);
  encode_time(0, f, a);
  fill_cond_positions(config_, g, 0, f.cond_turns);
  pages_->expect(DitPages::Way::kWithoutInjectors);
  for (int64_t i = 0; i < config_.layers && status().ok(); ++i) {
    const Pass p{i, g, a, caches};
    const KeyValues& cache = caches.cond.layers[static_cast<size_t>(i)];
    {
      DitPin page = pin(i, DitPart::kSelfAttention);
      auto attend = [&](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) {
        keep(k, cache.k, cache.k_scale);
        keep(v, cache.v, cache.v_scale);
        ops::rope(backend_, q, f.cond_turns, config_.heads, q);
        ops::rope(backend_, k, f.cond_turns, config_.heads, k);
        const KeyValues self{k, v};
        ops::attention(backend_, q, {&self, 1}, wide_attention(config_, types_), out);
      };
      self_attention(p, (*page).attention, f, x, attend);
    }
    cross_attention(p, *pin(i, DitPart::kCrossAttention), x);
    feed_forward(p, *pin(i, DitPart::kFfn), f, x);
  }
}

// The sink moves with the video: its keys are turned afresh.
KeyValues S2vDit::turned_sink(const KeyValues& cond, const DitFlight& f, DitActivations& a) {
  bool plain = cond.k_scale.empty();
  if (!plain) ops::dequantise(backend_, cond.k, cond.k_scale, a.cond_k);
  ops::rope(backend_, plain ? cond.k : a.cond_k, f.cond_turns, config_.heads, a.cond_k);
  return {a.cond_k, cond.v, Tensor(), cond.v_scale};
}

void S2vDit::begin(const DitGeometry& g, const BlockInputs& in, DitFlight& f, DitActivations& a, DitCaches& caches) {
  const DitCommonWeights& w = weights_.common;
  f.in = in;
  Tensor x = f.x.slice(0, g.block_tokens());
  if (in.pose.empty()) std::memset(a.zero_pose.data, 0, a.zero_pose.bytes());
  embed(in.latents, kPatch, w.patch, 0, x, a);
  Tensor pose_patches(a.patches.data, {g.block_tokens(), w.pose_patch.k}, DType::kF32);
  ops::patchify(backend_, in.pose.empty() ? a.zero_pose : in.pose, kPatch, pose_patches);
  ops::linear(backend_, pose_patches, w.pose_patch, x, {.residual = x});
  encode_time(in.timestep, f, a);
  if (observer_) observer_("time_embedding", f.time);
  if (observer_) observer_("time_projection", f.time_projected);
  fill_block_positions(config_, g, in.start_latent, f.block_turns);
  fill_cond_positions(config_, g, sink_shift(in.start_latent, in.relative_dist), f.cond_turns);
  int64_t& filled = caches.filled_latents[static_cast<size_t>(in.step)];
  int64_t slot = in.start_latent % g.clip_latents;
  LA_CHECK(slot + g.block_latents <= g.clip_latents);
  filled = std::max(filled, slot + g.block_latents);
}

void S2vDit::layer(int64_t i, const DitGeometry& g, std::span<DitFlight* const> flights, DitActivations& a,
                   DitCaches& caches) {
  if (!status().ok()) return;
  if (i == 0) pages_->expect(DitPages::Way::kAll);
  const Pass p{i, g, a, caches};
  auto rows = [&](const DitFlight& f) { return f.x.slice(0, g.block_tokens()); };
  {
    DitPin page = pin(i, DitPart::kSelfAttention);
    for (DitFlight* f : flights) look_around(p, (*page).attention, *f);
  }
  {
    DitPin page = pin(i, DitPart::kCrossAttention);
    for (DitFlight* f : flights) cross_attention(p, *page, rows(*f));
  }
  {
    DitPin page = pin(i, DitPart::kFfn);
    for (DitFlight* f : flights) feed_forward(p, *page, *f, rows(*f));
  }
  for (DitFlight* f : flights) observe("block", i, "", rows(*f));
  if (config_.injector_of(i) < 0) return;
  DitPin page = pin(i, DitPart::kInjector);
  for (DitFlight* f : flights) inject_audio(p, *page, *f);
}

// Self-attention of a noisy forward: to the ring of its step, which its own keys and values enter, and to the sink.
void S2vDit::look_around(const Pass& p, const DitAttentionWeights& w, DitFlight& f) {
  const DitGeometry& g = p.geometry;
  const KeyValues& cond = p.caches.cond.layers[static_cast<size_t>(p.layer)];
  int64_t n = g.latent_tokens(), first = f.in.start_latent % g.clip_latents, begin = first * n;
  int64_t valid = p.caches.filled_latents[static_cast<size_t>(f.in.step)] * n;
  RingPin ring(*p.caches.rings, {f.in.step, p.layer}, first / g.block_latents);
  const KeyValues& kept = *ring;
  auto attend = [&](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) {
    ops::rope(backend_, q, f.block_turns, config_.heads, q);
    const KeyValues slot = kept.slice(begin, k.dim(0));
    Tensor turned = slot.k_scale.empty() ? slot.k : k;  // into the ring, or to be rounded to it
    ops::rope(backend_, k, f.block_turns, config_.heads, turned);
    if (turned.data != slot.k.data) keep(turned, slot.k, slot.k_scale);
    keep(v, slot.v, slot.v_scale);
    const KeyValues segments[] = {kept.slice(0, valid), turned_sink(cond, f, p.a)};
    ops::attention(backend_, q, segments, wide_attention(config_, types_), out);
  };
  self_attention(p, w, f, f.x.slice(0, g.block_tokens()), attend);
}

// x += for every actor: mask * cross-attention of each latent frame's tokens to that frame's sound.
void S2vDit::inject_audio(const Pass& p, const DitPageWeights& w, DitFlight& flight) {
  const DitGeometry& g = p.geometry;
  DitActivations& a = p.a;
  std::span<AudioTokens> sound = flight.in.sound.empty() ? std::span(p.caches.actors) : flight.in.sound;
  int64_t j = config_.injector_of(p.layer);
  int64_t tokens = g.block_tokens(), n = g.latent_tokens(), keys = config_.audio_tokens + 1;
  Tensor x = flight.x.slice(0, tokens), y = a.y.slice(0, tokens), q = a.q.slice(0, tokens),
         attended = a.attended.slice(0, tokens);
  bool many = sound.size() > 1;
  for (size_t actor = 0; actor < sound.size(); ++actor) {
    project_sound(p, w, sound[actor]);
    const KeyValues& kv = sound[actor].injected[static_cast<size_t>(j)];
    ops::layer_norm(backend_, x, 1e-5f, y, sound[actor].adain[static_cast<size_t>(j)]);
    observe("adain", j, "", y);
    ops::linear(backend_, y, w.attention.q, q);
    ops::rms_norm(backend_, q, config_.eps, w.attention.norm_q, q);
    for (int64_t f = 0; f < g.block_latents; ++f) {
      const KeyValues frame{kv.k.slice(f * keys, keys), kv.v.slice(f * keys, keys)};
      ops::attention(backend_, q.slice(f * n, n), {&frame, 1},
                     {.heads = config_.heads, .scale = attention_scale(config_)}, attended.slice(f * n, n));
    }
    observe_product("audio_injector", j, "", attended, w.attention.o, q);
    // Every actor reads the same x, so with several the sum is built aside.
    Epilogue epilogue;
    if (many && !flight.in.actor_masks.empty())
      epilogue.gate = actor_gate(flight.in.actor_masks.slice(int64_t(actor), 1), a);
    if (!many || actor > 0) epilogue.residual = many ? a.injected : x;
    ops::linear(backend_, attended, w.attention.o, many ? a.injected : x, epilogue);
  }
  if (many) ops::add(backend_, x, a.injected, x);
}

void S2vDit::end(const DitGeometry& g, DitFlight& f, DitActivations& a, const Tensor& velocity) {
  Tensor x = f.x.slice(0, g.block_tokens()), y = a.y.slice(0, g.block_tokens());
  ops::add(backend_, weights_.common.head_modulation, f.time.reshape({config_.dim}), a.head_modulation);
  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.head_modulation, 0));
  ops::linear(backend_, y, weights_.common.head, a.head);
  if (observer_) observer_("head", a.head);
  ops::unpatchify(backend_, a.head, kPatch, velocity);
}

void S2vDit::forward(const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches,
                     const Tensor& velocity) {
  DitFlight* flight = &a.flights.front();
  begin(g, in, *flight, a, caches);
  for (int64_t i = 0; i < config_.layers; ++i) layer(i, g, {&flight, 1}, a, caches);
  end(g, *flight, a, velocity);
}

}  // namespace liveavatar
