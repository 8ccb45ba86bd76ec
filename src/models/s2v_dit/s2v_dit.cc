#include "models/s2v_dit/s2v_dit.h"

#include <algorithm>
#include <cmath>

#include "models/s2v_dit/rope_tables.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "ops/transfer.h"

namespace liveavatar {

namespace {

Modulation modulate(const Tensor& modulation, int64_t shift_row) {
  return {modulation.slice(shift_row, 1), modulation.slice(shift_row + 1, 1)};
}

// Latents [first, first + count) of motion [C, 19, H, W] -> [C, count, H, W].
Tensor motion_latents(Backend& backend, const Tensor& motion, int64_t first, int64_t count, DitActivations& a) {
  Tensor part = a.motion_part.front({motion.dim(0), count, motion.dim(2), motion.dim(3)});
  ops::copy_frames(backend, motion, part, {first, 0, count});
  return part;
}

// [freq]: cosines, then sines.
void fill_sinusoid(double timestep, std::span<float> values) {
  size_t half = values.size() / 2;
  for (size_t k = 0; k < half; ++k) {
    double angle = timestep * std::pow(10000.0, -double(k) / double(half));
    values[k] = static_cast<float>(std::cos(angle));
    values[half + k] = static_cast<float>(std::sin(angle));
  }
}

float attention_scale(const DitConfig& config) { return 1.0f / std::sqrt(static_cast<float>(config.head_dim())); }

// Attention to many keys: in 8 bits if the weights are int8 and the backend supports it.
AttentionSpec wide_attention(const DitConfig& config, const DitTypes& types) {
  return {.heads = config.heads, .scale = attention_scale(config), .in_8bit = types.weights == DType::kI8};
}

}  // namespace

S2vDit::S2vDit(const DitConfig& config, Backend& backend, const DitTypes& types)
    : config_(config), backend_(backend), types_(types) {
  const std::vector<DitWeightGroup> groups = dit_weight_groups(config);
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].part == DitPart::kSelfAttention) first_group_.push_back(i);
  }
}

Expected<std::unique_ptr<S2vDit>> S2vDit::load(const DitConfig& config, const TensorSource& source, Backend& backend,
                                               Budget& budget, DitTypes types) {
  std::unique_ptr<S2vDit> dit(new S2vDit(config, backend, types));
  WeightLoader loader(source, backend, budget, MemoryCategory::kWeights, types);
  LA_ASSIGN_OR_RETURN(dit->weights_, load_dit_weights(config, loader));
  LA_RETURN_IF_ERROR(dit->read_back_shares());
  return dit;
}

Expected<std::unique_ptr<S2vDit>> S2vDit::dry_run(const DitConfig& config, Backend& backend, Budget& budget,
                                                  DitTypes types, size_t scratch_bytes) {
  std::unique_ptr<S2vDit> dit(new S2vDit(config, backend, types));
  WeightSizer sizer(backend, budget, MemoryCategory::kWeights, types, scratch_bytes);
  LA_ASSIGN_OR_RETURN(dit->weights_, load_dit_weights(config, sizer));
  return dit;
}

Expected<std::unique_ptr<S2vDit>> S2vDit::open(PackedDit packed, Backend& backend, Budget& budget) {
  std::unique_ptr<S2vDit> dit(new S2vDit(packed.config, backend, packed.types));
  PageSpan span = packed.common();
  std::unique_ptr<DirectFile> file;
  if (!budget.dry_run()) {
    LA_ASSIGN_OR_RETURN(file, DirectFile::open(packed.path));
  }
  LA_ASSIGN_OR_RETURN(Buffer common, load_page(std::move(file), span, budget));
  if (!budget.dry_run()) {
    dit->weights_.common = view_dit_common(packed.config, backend, packed.types, common);
    LA_RETURN_IF_ERROR(dit->read_back_shares());
  }
  dit->weights_.buffers.push_back(std::move(common));
  dit->packed_ = std::move(packed);
  return dit;
}

Expected<std::unique_ptr<S2vDit>> S2vDit::load_beside(const DitConfig& config, const DitTypes& types,
                                                      WeightAllocator& loader, Backend& backend, Budget& budget) {
  std::unique_ptr<S2vDit> dit(new S2vDit(config, backend, types));
  LA_ASSIGN_OR_RETURN(dit->beside_, HostDit::load(config, types, backend, loader, budget));
  if (budget.dry_run()) return dit;
  dit->weights_.common = view_dit_common(config, backend, types, dit->beside_->pages.front());
  LA_RETURN_IF_ERROR(dit->read_back_shares());
  return dit;
}

// The host mixes the audio encoder's hidden states, so it reads their weights back from the device.
Status S2vDit::read_back_shares() {
  const Tensor& shares = weights_.common.audio.layer_shares;
  layer_shares_.resize(static_cast<size_t>(shares.elements()));
  return backend_.allocator().read(static_cast<const std::byte*>(shares.address()), layer_shares_.data(),
                                   shares.bytes());
}

Expected<std::unique_ptr<DitWeightGroups>> S2vDit::open_weight_groups(const Residency& residency, Budget& budget,
                                                                      const std::stop_token& stop) const {
  if (!packed_ && !beside_) return std::unique_ptr<DitWeightGroups>(new ResidentWeightGroups(weights_.groups));
  Expected<DitPages> pages =
      beside_ ? beside_->layers(config_, types_, budget.dry_run()) : packed_->pages(budget.dry_run());
  LA_RETURN_IF_ERROR(pages.status());
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DitWeightGroups> groups,
                      PagedWeightGroups::open(*std::move(pages), residency, backend_, budget, stop));
  return groups;
}

PassBytes S2vDit::paged_bytes(const Residency& residency) const {
  if (packed_) return liveavatar::paged_bytes(config_, packed_->spans(), residency);
  if (!beside_) return {};
  const uint64_t all = liveavatar::paged_bytes(config_, beside_->layers(config_, types_, true).spans, residency).all;
  return {all, 0};
}

void S2vDit::observe_product(const DitSession& s, const Product& name, const Tensor& x, const LinearWeight& w,
                             const Tensor& scratch) const {
  if (!s.observer) return;
  ops::linear(backend_, x, w, scratch);
  observe(s, name.group, name.i, name.part, scratch);
}

// Sinusoid of the timestep -> embedding e [1, D] -> six modulation rows e0 [6, D].
void S2vDit::encode_time(double timestep, ForwardState& f) const {
  DitActivations& a = f.session->activations;
  fill_sinusoid(timestep, Upload(backend_, a.sinusoid).values());
  ops::linear(backend_, a.sinusoid, weights_.common.time_in, a.time_hidden, {.activation = Activation::kSilu});
  ops::linear(backend_, a.time_hidden, weights_.common.time_out, f.time_embedding);
  ops::activate(backend_, f.time_embedding, Activation::kSilu, a.time_act);
  ops::linear(backend_, a.time_act, weights_.common.time_project, f.time_projection.reshape({1, 6 * config_.dim}));
}

// tokens [n, D] = patches of latents through w, plus the token type embedding.
void S2vDit::embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, TokenType type,
                   const Tensor& tokens, DitActivations& a) const {
  Tensor patches = a.patches.front({tokens.dim(0), w.k});
  ops::patchify(backend_, latents, patch, patches);
  ops::linear(backend_, patches, w, tokens);
  ops::add(backend_, tokens, weights_.common.token_type.slice(static_cast<int64_t>(type), 1).reshape({config_.dim}),
           tokens);
}

void S2vDit::encode_text(const Tensor& rows, DitSession& session) const {
  DitActivations& a = session.activations;
  DitCaches& caches = session.caches;
  LA_CHECK(rows.dim(0) <= config_.text_len && rows.dim(1) == config_.text_dim);
  ops::fill(backend_, a.text_rows, 0);  // rows after the prompt are zeros, and attention includes them
  ops::copy(backend_, rows, a.text_rows.slice(0, rows.dim(0)));
  ops::linear(backend_, a.text_rows, weights_.common.text_in, a.text_hidden, {.activation = Activation::kGeluTanh});
  ops::linear(backend_, a.text_hidden, weights_.common.text_out, caches.prompt);
  observe(session, "text_embedding", caches.prompt);
  std::fill(caches.text_ready.begin(), caches.text_ready.end(), false);
}

// The prompt's keys and values for this layer, computed once for each prompt.
void S2vDit::project_text(int64_t layer, const DitAttentionWeights& w, DitSession& session) const {
  DitCaches& caches = session.caches;
  char& ready = caches.text_ready[static_cast<size_t>(layer)];
  if (ready) return;
  const KeyValues& cache = caches.text.layers[static_cast<size_t>(layer)];
  ops::linear(backend_, caches.prompt, w.k, cache.k);
  ops::rms_norm(backend_, cache.k, config_.eps, w.norm_k, cache.k);
  ops::linear(backend_, caches.prompt, w.v, cache.v);
  ready = true;
}

// q and k are normalised over the whole width, before the split into heads.
void S2vDit::project(const DitAttentionWeights& w, const Tensor& y, const Tensor& q, const Tensor& k,
                     const Tensor& v) const {
  ops::linear(backend_, y, w.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.norm_q, q);
  ops::linear(backend_, y, w.k, k);
  ops::rms_norm(backend_, k, config_.eps, w.norm_k, k);
  ops::linear(backend_, y, w.v, v);
}

// Writes keys or values to a cache, converted to its type.
void S2vDit::write_cache(const Tensor& x, const Tensor& cache, const Tensor& scale) const {
  if (scale.empty()) return ops::copy(backend_, x, cache);
  ops::quantise(backend_, x, cache, scale);
}

// Applies RoPE to keys and writes them to a cache. For a quantised cache RoPE is applied in place first.
void S2vDit::write_keys(const Tensor& k, const Tensor& rope, const KeyValues& cache) const {
  bool quantised = !cache.k_scale.empty();
  ops::rope(backend_, k, rope, config_.heads, quantised ? k : cache.k);
  if (quantised) ops::quantise(backend_, k, cache.k, cache.k_scale);
}

// The sink's keys and values for this forward. The sink's position moves with the video, so RoPE is applied in every
// forward.
KeyValues S2vDit::rope_sink(int64_t layer, const ForwardState& f) const {
  const KeyValues& sink = f.session->caches.sink.layers[static_cast<size_t>(layer)];
  Tensor k = sink.k, rotated = f.session->activations.sink_k;
  if (!sink.k_scale.empty()) {
    ops::dequantise(backend_, k, sink.k_scale, rotated);
    k = rotated;
  }
  ops::rope(backend_, k, f.sink_rope, config_.heads, rotated);
  return {rotated, sink.v, Tensor(), sink.v_scale};
}

// The sum of the layer's learned modulation and the timestep's: rows 0..2 for self-attention, rows 3..5 for the FFN.
S2vDit::AdaLn S2vDit::ada_ln(int64_t layer, int64_t first_row, const ForwardState& f) const {
  Tensor sum = f.session->activations.modulation.slice(first_row, 3);
  ops::add(backend_, weights_.common.modulation[static_cast<size_t>(layer)].slice(first_row, 3),
           f.time_projection.slice(first_row, 3), sum);
  return {modulate(sum, 0), sum.slice(2, 1)};
}

// x [block tokens, D] f32 += gate1 * SelfAttention(LN1(x) modulated), with keys and values of the step's KV cache,
// which gets those of this block first, and of the sink.
void S2vDit::self_attention(int64_t layer, const DitAttentionWeights& w, ForwardState& f, const Tensor& x) const {
  const DitGeometry& g = f.session->geometry;
  const DitCaches& caches = f.session->caches;
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0), n = g.latent_tokens();
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), k = a.k.slice(0, tokens), v = a.v.slice(0, tokens);
  Tensor attended = a.attended.slice(0, tokens);

  AdaLn ada = ada_ln(layer, 0, f);
  ops::layer_norm(backend_, x, config_.eps, y, ada.norm);
  project(w, y, q, k, v);
  ops::rope(backend_, q, f.block_rope, config_.heads, q);

  int64_t first_latent = f.in.start_latent % g.clip_latents;
  KvCacheGuard cache(*caches.kv, backend_, {f.in.step, layer}, first_latent / g.block_latents);
  KeyValues slot = (*cache).slice(first_latent * n, tokens);
  write_keys(k, f.block_rope, slot);
  write_cache(v, slot.v, slot.v_scale);

  int64_t filled = caches.filled_latents[static_cast<size_t>(f.in.step)];
  KeyValues segments[] = {(*cache).slice(0, filled * n), rope_sink(layer, f)};
  ops::attention(backend_, q, segments, wide_attention(config_, types_), attended);
  observe_product(*f.session, {"block", layer, ".self_attn"}, attended, w.o, q);
  ops::linear(backend_, attended, w.o, x, {.gate = ada.gate, .residual = x});
}

// The same for the sink tokens, x [sink_tokens, D] f32: attention among themselves. Fills the layer's sink.
void S2vDit::prefill_self_attention(int64_t layer, const DitAttentionWeights& w, ForwardState& f,
                                    const Tensor& x) const {
  const KeyValues& sink = f.session->caches.sink.layers[static_cast<size_t>(layer)];
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), k = a.k.slice(0, tokens), v = a.v.slice(0, tokens);
  Tensor attended = a.attended.slice(0, tokens);

  AdaLn ada = ada_ln(layer, 0, f);
  ops::layer_norm(backend_, x, config_.eps, y, ada.norm);
  project(w, y, q, k, v);
  write_cache(k, sink.k, sink.k_scale);  // before RoPE, which every forward applies with its own positions
  write_cache(v, sink.v, sink.v_scale);
  ops::rope(backend_, q, f.sink_rope, config_.heads, q);
  ops::rope(backend_, k, f.sink_rope, config_.heads, k);

  const KeyValues self{k, v};
  ops::attention(backend_, q, {&self, 1}, wide_attention(config_, types_), attended);
  observe_product(*f.session, {"block", layer, ".self_attn"}, attended, w.o, q);
  ops::linear(backend_, attended, w.o, x, {.gate = ada.gate, .residual = x});
}

// x += CrossAttention(LN3(x), prompt)
void S2vDit::cross_attention(int64_t layer, const DitCrossAttentionWeights& w, ForwardState& f, const Tensor& x) const {
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), attended = a.attended.slice(0, tokens);
  project_text(layer, w.attention, *f.session);
  ops::layer_norm_affine(backend_, x, config_.eps, w.norm_weight, w.norm_bias, y);
  ops::linear(backend_, y, w.attention.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.attention.norm_q, q);
  const KeyValues text = f.session->caches.text.layers[static_cast<size_t>(layer)];
  ops::attention(backend_, q, {&text, 1}, wide_attention(config_, types_), attended);
  observe_product(*f.session, {"block", layer, ".cross_attn"}, attended, w.attention.o, q);
  ops::linear(backend_, attended, w.attention.o, x, {.residual = x});
}

// x += gate2 * FFN(LN2(x) modulated)
void S2vDit::feed_forward(int64_t layer, const DitFfnWeights& w, ForwardState& f, const Tensor& x) const {
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), hidden = a.hidden.slice(0, tokens);
  AdaLn ada = ada_ln(layer, 3, f);
  ops::layer_norm(backend_, x, config_.eps, y, ada.norm);
  ops::linear(backend_, y, w.in, hidden, {.activation = Activation::kGeluTanh});
  observe_product(*f.session, {"block", layer, ".ffn"}, hidden, w.out, q);
  ops::linear(backend_, hidden, w.out, x, {.gate = ada.gate, .residual = x});
}

void S2vDit::prefill(const Tensor& reference, const Tensor& motion, DitWeightGroups& weights,
                     DitSession& session) const {
  const DitGeometry& g = session.geometry;
  DitActivations& a = session.activations;
  const DitCommonWeights& w = weights_.common;
  ForwardState& f = a.forwards.front();
  Tensor x = f.x.slice(0, g.sink_tokens());
  int64_t n = g.latent_tokens();
  embed(reference, kPatch, w.patch, TokenType::kReference, x.slice(0, n), a);
  // Newest motion latents first: one at full resolution, two at half, sixteen at a quarter.
  Tensor one = motion_latents(backend_, motion, kMotion4x + kMotion2x, kMotion1x, a);
  embed(one, kPatch, w.pack_1x, TokenType::kMotion, x.slice(n, n), a);
  Tensor two = motion_latents(backend_, motion, kMotion4x, kMotion2x, a);
  embed(two, kPatch2x, w.pack_2x, TokenType::kMotion, x.slice(2 * n, g.tokens_2x()), a);
  Tensor sixteen = motion_latents(backend_, motion, 0, kMotion4x, a);
  embed(sixteen, kPatch4x, w.pack_4x, TokenType::kMotion, x.slice(2 * n + g.tokens_2x(), g.tokens_4x()), a);
  encode_time(0, f);
  fill_sink_rope(config_, g, 0, Upload(backend_, f.sink_rope).values());
  weights.expect(DitWeightGroups::AccessOrder::kWithoutAudio);
  for (int64_t i = 0; i < config_.layers && weights.status().ok() && !session.stop.stop_requested(); ++i) {
    prefill_self_attention(i, acquire<DitSelfAttentionWeights>(weights, i)->attention, f, x);
    cross_attention(i, *acquire<DitCrossAttentionWeights>(weights, i), f, x);
    feed_forward(i, *acquire<DitFfnWeights>(weights, i), f, x);
  }
}

void S2vDit::begin(const BlockInputs& in, ForwardState& f) const {
  const DitGeometry& g = f.session->geometry;
  DitActivations& a = f.session->activations;
  const DitCommonWeights& w = weights_.common;
  f.in = in;
  Tensor x = f.x.slice(0, g.block_tokens());
  if (in.pose.empty()) ops::fill(backend_, a.zero_pose, 0);
  embed(in.latents, kPatch, w.patch, TokenType::kNoisy, x, a);
  Tensor pose_patches = a.patches.front({g.block_tokens(), w.pose_patch.k});
  ops::patchify(backend_, in.pose.empty() ? a.zero_pose : in.pose, kPatch, pose_patches);
  ops::linear(backend_, pose_patches, w.pose_patch, x, {.residual = x});
  encode_time(in.timestep, f);
  observe(*f.session, "time_embedding", f.time_embedding);
  observe(*f.session, "time_projection", f.time_projection);
  fill_block_rope(config_, g, in.start_latent, Upload(backend_, f.block_rope).values());
  fill_sink_rope(config_, g, sink_shift(in.start_latent, in.relative_dist), Upload(backend_, f.sink_rope).values());
  int64_t& filled = f.session->caches.filled_latents[static_cast<size_t>(in.step)];
  int64_t slot = in.start_latent % g.clip_latents;
  LA_CHECK(slot + g.block_latents <= g.clip_latents);
  filled = std::max(filled, slot + g.block_latents);
}

// Self-attention, cross-attention to the prompt, FFN, and after some layers cross-attention to the audio.
void S2vDit::layer(int64_t i, DitWeightGroups& weights, std::span<ForwardState* const> forwards) const {
  if (!weights.status().ok()) return;
  if (i == 0) weights.expect(DitWeightGroups::AccessOrder::kAll);
  auto rows = [](const ForwardState& f) { return f.x.slice(0, f.session->geometry.block_tokens()); };
  {
    DitWeightGuard group = acquire<DitSelfAttentionWeights>(weights, i);
    for (ForwardState* f : forwards) self_attention(i, group->attention, *f, rows(*f));
  }
  {
    DitWeightGuard group = acquire<DitCrossAttentionWeights>(weights, i);
    for (ForwardState* f : forwards) cross_attention(i, *group, *f, rows(*f));
  }
  {
    DitWeightGuard group = acquire<DitFfnWeights>(weights, i);
    for (ForwardState* f : forwards) feed_forward(i, *group, *f, rows(*f));
  }
  for (ForwardState* f : forwards) observe(*f->session, "block", i, "", rows(*f));
  if (config_.audio_attention_of(i) < 0) return;
  DitWeightGuard group = acquire<DitAudioAttentionWeights>(weights, i);
  for (ForwardState* f : forwards) audio_cross_attention(i, *group, *f);
}

// For every actor: x += mask * cross-attention of each latent frame's tokens to the audio of that frame.
void S2vDit::audio_cross_attention(int64_t layer, const DitAudioAttentionWeights& w, ForwardState& forward) const {
  DitSession& session = *forward.session;
  const DitGeometry& g = session.geometry;
  DitActivations& a = session.activations;
  std::span<AudioTokens> audio = forward.in.audio.empty() ? std::span(session.caches.actors) : forward.in.audio;
  int64_t j = config_.audio_attention_of(layer);
  int64_t tokens = g.block_tokens(), n = g.latent_tokens(), keys = config_.audio_tokens + 1;
  Tensor x = forward.x.slice(0, tokens), y = a.y.slice(0, tokens), q = a.q.slice(0, tokens),
         attended = a.attended.slice(0, tokens);
  bool many = audio.size() > 1;
  for (size_t actor = 0; actor < audio.size(); ++actor) {
    project_audio(layer, w, audio[actor]);
    const KeyValues& kv = audio[actor].kv[static_cast<size_t>(j)];
    ops::layer_norm(backend_, x, 1e-5f, y, audio[actor].adain[static_cast<size_t>(j)]);
    observe(session, "adain", j, "", y);
    ops::linear(backend_, y, w.attention.q, q);
    ops::rms_norm(backend_, q, config_.eps, w.attention.norm_q, q);
    for (int64_t f = 0; f < g.block_latents; ++f) {
      const KeyValues frame{kv.k.slice(f * keys, keys), kv.v.slice(f * keys, keys)};
      ops::attention(backend_, q.slice(f * n, n), {&frame, 1},
                     {.heads = config_.heads, .scale = attention_scale(config_)}, attended.slice(f * n, n));
    }
    observe_product(session, {"audio_injector", j, ""}, attended, w.attention.o, q);
    // Every actor reads the same x, so the sum over several actors has its own buffer.
    Epilogue epilogue;
    if (many && !forward.in.actor_masks.empty())
      epilogue.gate = actor_gate(forward.in.actor_masks.slice(int64_t(actor), 1), a);
    if (!many || actor > 0) epilogue.residual = many ? a.audio_sum : x;
    ops::linear(backend_, attended, w.attention.o, many ? a.audio_sum : x, epilogue);
  }
  if (many) ops::add(backend_, x, a.audio_sum, x);
}

void S2vDit::end(ForwardState& f, const Tensor& velocity) const {
  int64_t tokens = f.session->geometry.block_tokens();
  DitActivations& a = f.session->activations;
  Tensor x = f.x.slice(0, tokens), y = a.y.slice(0, tokens);
  ops::add(backend_, weights_.common.head_modulation, f.time_embedding.reshape({config_.dim}), a.head_modulation);
  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.head_modulation, 0));
  ops::linear(backend_, y, weights_.common.head, a.head);
  observe(*f.session, "head", a.head);
  ops::unpatchify(backend_, a.head, kPatch, velocity);
}

void S2vDit::forward(const BlockInputs& in, DitWeightGroups& weights, DitSession& session,
                     const Tensor& velocity) const {
  ForwardState* f = &session.activations.forwards.front();
  begin(in, *f);
  for (int64_t i = 0; i < config_.layers; ++i) layer(i, weights, {&f, 1});
  end(*f, velocity);
}

}  // namespace liveavatar
