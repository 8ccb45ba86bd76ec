#include "models/s2v_dit/s2v_dit.h"

#include <algorithm>
#include <cmath>

#include "models/s2v_dit/positions.h"
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
  WeightLoader loader(source, backend, budget, MemoryCategory::kWeights, types);
  LA_ASSIGN_OR_RETURN(dit->weights_, load_dit_weights(config, loader));
  LA_RETURN_IF_ERROR(dit->read_back_shares());
  return dit;
}

Expected<std::unique_ptr<S2vDit>> S2vDit::open(PackedDit packed, Backend& backend, Budget& budget) {
  std::unique_ptr<S2vDit> dit(new S2vDit(packed.config, backend, packed.types));
  PageSpan span = packed.common();
  LA_ASSIGN_OR_RETURN(Buffer common, Buffer::allocate(budget, MemoryCategory::kWeights, span.bytes));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DirectFile> file, DirectFile::open(packed.path));
  LA_RETURN_IF_ERROR(read_into(*file, span, common, budget));
  dit->weights_.common = view_dit_common(packed.config, backend, packed.types, common);
  dit->weights_.buffers.push_back(std::move(common));
  LA_RETURN_IF_ERROR(dit->read_back_shares());
  dit->packed_ = std::move(packed);
  return dit;
}

// The host mixes the audio encoder's states itself: the shares come back from where the other weights are.
Status S2vDit::read_back_shares() {
  const Tensor& shares = weights_.common.audio.layer_shares;
  layer_shares_.resize(static_cast<size_t>(shares.elements()));
  return backend_.allocator().read(static_cast<const std::byte*>(shares.address()), layer_shares_.data(),
                                   shares.bytes());
}

Expected<std::unique_ptr<DitPages>> S2vDit::open_pages(int64_t resident, Budget& budget) const {
  if (!packed_) return std::unique_ptr<DitPages>(new ResidentPages(weights_.pages));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DitPages> pages, PagedPages::open(*packed_, resident, backend_, budget));
  return pages;
}

void S2vDit::observe_product(const DitSession& s, const Product& name, const Tensor& x, const LinearWeight& w,
                             const Tensor& scratch) const {
  if (!s.observer) return;
  ops::linear(backend_, x, w, scratch);
  observe(s, name.group, name.i, name.part, scratch);
}

// Sinusoid of the timestep -> embedding e [1, D] -> six modulation rows e0 [6, D].
void S2vDit::encode_time(double timestep, DitFlight& f) const {
  DitActivations& a = f.session->activations;
  fill_sinusoid(timestep, Upload(backend_, a.sinusoid).values());
  ops::linear(backend_, a.sinusoid, weights_.common.time_in, a.time_hidden, {.activation = Activation::kSilu});
  ops::linear(backend_, a.time_hidden, weights_.common.time_out, f.time);
  ops::activate(backend_, f.time, Activation::kSilu, a.time_act);
  ops::linear(backend_, a.time_act, weights_.common.time_project, f.time_projected.reshape({1, 6 * config_.dim}));
}

// tokens [n, D] = patches of latents through w, plus the embedding of their type.
void S2vDit::embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, TokenType type,
                   const Tensor& tokens, DitActivations& a) const {
  Tensor patches = a.patches.front({tokens.dim(0), w.k});
  ops::patchify(backend_, latents, patch, patches);
  ops::linear(backend_, patches, w, tokens);
  ops::add(backend_, tokens, weights_.common.kind.slice(static_cast<int64_t>(type), 1).reshape({config_.dim}), tokens);
}

void S2vDit::encode_text(const Tensor& rows, DitSession& session) const {
  DitActivations& a = session.activations;
  DitCaches& caches = session.caches;
  LA_CHECK(rows.dim(0) <= config_.text_len && rows.dim(1) == config_.text_dim);
  ops::fill(backend_, a.text_rows, 0);  // slots behind the prompt are zero rows, and are attended to
  ops::copy(backend_, rows, a.text_rows.slice(0, rows.dim(0)));
  ops::linear(backend_, a.text_rows, weights_.common.text_in, a.text_hidden, {.activation = Activation::kGeluTanh});
  ops::linear(backend_, a.text_hidden, weights_.common.text_out, caches.prompt);
  observe(session, "text_embedding", caches.prompt);
  std::fill(caches.text_ready.begin(), caches.text_ready.end(), false);
}

// The prompt's keys and values for this layer, once a prompt.
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

// q and k normalised over the whole width, before the heads split.
void S2vDit::project(const DitAttentionWeights& w, const Tensor& y, const Tensor& q, const Tensor& k,
                     const Tensor& v) const {
  ops::linear(backend_, y, w.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.norm_q, q);
  ops::linear(backend_, y, w.k, k);
  ops::rms_norm(backend_, k, config_.eps, w.norm_k, k);
  ops::linear(backend_, y, w.v, v);
}

// Keys or values into a cache, rounded to what it holds.
void S2vDit::write_cache(const Tensor& x, const Tensor& cache, const Tensor& scale) const {
  if (scale.empty()) return ops::copy(backend_, x, cache);
  ops::quantise(backend_, x, cache, scale);
}

// Keys, turned by RoPE, into a cache. Into one that rounds they are turned in place first.
void S2vDit::write_turned_keys(const Tensor& k, const Tensor& turns, const KeyValues& cache) const {
  bool rounds = !cache.k_scale.empty();
  ops::rope(backend_, k, turns, config_.heads, rounds ? k : cache.k);
  if (rounds) ops::quantise(backend_, k, cache.k, cache.k_scale);
}

// The sink's keys and values for this forward. The sink moves with the video: its keys are turned afresh.
KeyValues S2vDit::turned_sink(int64_t layer, const DitFlight& f) const {
  const KeyValues& sink = f.session->caches.cond.layers[static_cast<size_t>(layer)];
  Tensor k = sink.k, turned = f.session->activations.cond_k;
  if (!sink.k_scale.empty()) {
    ops::dequantise(backend_, k, sink.k_scale, turned);
    k = turned;
  }
  ops::rope(backend_, k, f.cond_turns, config_.heads, turned);
  return {turned, sink.v, Tensor(), sink.v_scale};
}

// The layer's learned rows and those of the flight's time, added: rows 0..2 of the self-attention, 3..5 of the FFN.
S2vDit::AdaLn S2vDit::ada_ln(int64_t layer, int64_t first_row, const DitFlight& f) const {
  Tensor sum = f.session->activations.modulation.slice(first_row, 3);
  ops::add(backend_, weights_.common.modulation[static_cast<size_t>(layer)].slice(first_row, 3),
           f.time_projected.slice(first_row, 3), sum);
  return {modulate(sum, 0), sum.slice(2, 1)};
}

// x [block tokens, D] f32 += gate1 * SelfAttention(LN1(x) modulated): to the ring of the forward's step, which its own
// keys and values enter first, and to the sink.
void S2vDit::self_attention(int64_t layer, const DitAttentionWeights& w, DitFlight& f, const Tensor& x) const {
  const DitGeometry& g = f.session->geometry;
  const DitCaches& caches = f.session->caches;
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0), n = g.latent_tokens();
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), k = a.k.slice(0, tokens), v = a.v.slice(0, tokens);
  Tensor attended = a.attended.slice(0, tokens);

  AdaLn ada = ada_ln(layer, 0, f);
  ops::layer_norm(backend_, x, config_.eps, y, ada.norm);
  project(w, y, q, k, v);
  ops::rope(backend_, q, f.block_turns, config_.heads, q);

  int64_t first_latent = f.in.start_latent % g.clip_latents;
  RingPin ring(*caches.rings, backend_, {f.in.step, layer}, first_latent / g.block_latents);
  KeyValues slot = (*ring).slice(first_latent * n, tokens);
  write_turned_keys(k, f.block_turns, slot);
  write_cache(v, slot.v, slot.v_scale);

  int64_t filled = caches.filled_latents[static_cast<size_t>(f.in.step)];
  KeyValues seen[] = {(*ring).slice(0, filled * n), turned_sink(layer, f)};
  ops::attention(backend_, q, seen, wide_attention(config_, types_), attended);
  observe_product(*f.session, {"block", layer, ".self_attn"}, attended, w.o, q);
  ops::linear(backend_, attended, w.o, x, {.gate = ada.gate, .residual = x});
}

// The same for the sink's own tokens, x [cond tokens, D] f32: they look at each other, and fill the layer's sink.
void S2vDit::prefill_self_attention(int64_t layer, const DitAttentionWeights& w, DitFlight& f, const Tensor& x) const {
  const KeyValues& sink = f.session->caches.cond.layers[static_cast<size_t>(layer)];
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), k = a.k.slice(0, tokens), v = a.v.slice(0, tokens);
  Tensor attended = a.attended.slice(0, tokens);

  AdaLn ada = ada_ln(layer, 0, f);
  ops::layer_norm(backend_, x, config_.eps, y, ada.norm);
  project(w, y, q, k, v);
  write_cache(k, sink.k, sink.k_scale);  // before RoPE: every forward turns them its own way
  write_cache(v, sink.v, sink.v_scale);
  ops::rope(backend_, q, f.cond_turns, config_.heads, q);
  ops::rope(backend_, k, f.cond_turns, config_.heads, k);

  const KeyValues self{k, v};
  ops::attention(backend_, q, {&self, 1}, wide_attention(config_, types_), attended);
  observe_product(*f.session, {"block", layer, ".self_attn"}, attended, w.o, q);
  ops::linear(backend_, attended, w.o, x, {.gate = ada.gate, .residual = x});
}

// x += CrossAttention(LN3(x), prompt)
void S2vDit::cross_attention(int64_t layer, const DitCrossAttentionWeights& w, DitFlight& f, const Tensor& x) const {
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
void S2vDit::feed_forward(int64_t layer, const DitFfnWeights& w, DitFlight& f, const Tensor& x) const {
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), hidden = a.hidden.slice(0, tokens);
  AdaLn ada = ada_ln(layer, 3, f);
  ops::layer_norm(backend_, x, config_.eps, y, ada.norm);
  ops::linear(backend_, y, w.in, hidden, {.activation = Activation::kGeluTanh});
  observe_product(*f.session, {"block", layer, ".ffn"}, hidden, w.out, q);
  ops::linear(backend_, hidden, w.out, x, {.gate = ada.gate, .residual = x});
}

void S2vDit::prefill(const Tensor& reference, const Tensor& motion, DitPages& pages, DitSession& session) const {
  const DitGeometry& g = session.geometry;
  DitActivations& a = session.activations;
  const DitCommonWeights& w = weights_.common;
  DitFlight& f = a.flights.front();
  Tensor x = f.x.slice(0, g.cond_tokens());
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
  fill_cond_positions(config_, g, 0, Upload(backend_, f.cond_turns).values());
  pages.expect(DitPages::Way::kWithoutInjectors);
  for (int64_t i = 0; i < config_.layers && pages.status().ok() && !session.stop.stop_requested(); ++i) {
    prefill_self_attention(i, pin<DitSelfAttentionWeights>(pages, i)->attention, f, x);
    cross_attention(i, *pin<DitCrossAttentionWeights>(pages, i), f, x);
    feed_forward(i, *pin<DitFfnWeights>(pages, i), f, x);
  }
}

void S2vDit::begin(const BlockInputs& in, DitFlight& f) const {
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
  observe(*f.session, "time_embedding", f.time);
  observe(*f.session, "time_projection", f.time_projected);
  fill_block_positions(config_, g, in.start_latent, Upload(backend_, f.block_turns).values());
  fill_cond_positions(config_, g, sink_shift(in.start_latent, in.relative_dist),
                      Upload(backend_, f.cond_turns).values());
  int64_t& filled = f.session->caches.filled_latents[static_cast<size_t>(in.step)];
  int64_t slot = in.start_latent % g.clip_latents;
  LA_CHECK(slot + g.block_latents <= g.clip_latents);
  filled = std::max(filled, slot + g.block_latents);
}

// Self-attention, cross-attention to the prompt, FFN, and behind some layers the sound.
void S2vDit::layer(int64_t i, DitPages& pages, std::span<DitFlight* const> flights) const {
  if (!pages.status().ok()) return;
  if (i == 0) pages.expect(DitPages::Way::kAll);
  auto rows = [](const DitFlight& f) { return f.x.slice(0, f.session->geometry.block_tokens()); };
  {
    DitPin page = pin<DitSelfAttentionWeights>(pages, i);
    for (DitFlight* f : flights) self_attention(i, page->attention, *f, rows(*f));
  }
  {
    DitPin page = pin<DitCrossAttentionWeights>(pages, i);
    for (DitFlight* f : flights) cross_attention(i, *page, *f, rows(*f));
  }
  {
    DitPin page = pin<DitFfnWeights>(pages, i);
    for (DitFlight* f : flights) feed_forward(i, *page, *f, rows(*f));
  }
  for (DitFlight* f : flights) observe(*f->session, "block", i, "", rows(*f));
  if (config_.injector_of(i) < 0) return;
  DitPin page = pin<DitInjectorWeights>(pages, i);
  for (DitFlight* f : flights) inject_audio(i, *page, *f);
}

// x += for every actor: mask * cross-attention of each latent frame's tokens to that frame's sound.
void S2vDit::inject_audio(int64_t layer, const DitInjectorWeights& w, DitFlight& flight) const {
  DitSession& session = *flight.session;
  const DitGeometry& g = session.geometry;
  DitActivations& a = session.activations;
  std::span<AudioTokens> sound = flight.in.sound.empty() ? std::span(session.caches.actors) : flight.in.sound;
  int64_t j = config_.injector_of(layer);
  int64_t tokens = g.block_tokens(), n = g.latent_tokens(), keys = config_.audio_tokens + 1;
  Tensor x = flight.x.slice(0, tokens), y = a.y.slice(0, tokens), q = a.q.slice(0, tokens),
         attended = a.attended.slice(0, tokens);
  bool many = sound.size() > 1;
  for (size_t actor = 0; actor < sound.size(); ++actor) {
    project_sound(layer, w, sound[actor]);
    const KeyValues& kv = sound[actor].injected[static_cast<size_t>(j)];
    ops::layer_norm(backend_, x, 1e-5f, y, sound[actor].adain[static_cast<size_t>(j)]);
    observe(session, "adain", j, "", y);
    ops::linear(backend_, y, w.attention.q, q);
    ops::rms_norm(backend_, q, config_.eps, w.attention.norm_q, q);
    for (int64_t f = 0; f < g.block_latents; ++f) {
      const KeyValues frame{kv.k.slice(f * keys, keys), kv.v.slice(f * keys, keys)};
      ops::attention(backend_, q.slice(f * n, n), {&frame, 1},
                     {.heads = config_.heads, .scale = attention_scale(config_)}, attended.slice(f * n, n));
    }
    observe_product(session, {"audio_injector", j, ""}, attended, w.attention.o, q);
    // Every actor reads the same x, so with several the sum is built aside.
    Epilogue epilogue;
    if (many && !flight.in.actor_masks.empty())
      epilogue.gate = actor_gate(flight.in.actor_masks.slice(int64_t(actor), 1), a);
    if (!many || actor > 0) epilogue.residual = many ? a.injected : x;
    ops::linear(backend_, attended, w.attention.o, many ? a.injected : x, epilogue);
  }
  if (many) ops::add(backend_, x, a.injected, x);
}

void S2vDit::end(DitFlight& f, const Tensor& velocity) const {
  int64_t tokens = f.session->geometry.block_tokens();
  DitActivations& a = f.session->activations;
  Tensor x = f.x.slice(0, tokens), y = a.y.slice(0, tokens);
  ops::add(backend_, weights_.common.head_modulation, f.time.reshape({config_.dim}), a.head_modulation);
  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.head_modulation, 0));
  ops::linear(backend_, y, weights_.common.head, a.head);
  observe(*f.session, "head", a.head);
  ops::unpatchify(backend_, a.head, kPatch, velocity);
}

void S2vDit::forward(const BlockInputs& in, DitPages& pages, DitSession& session, const Tensor& velocity) const {
  DitFlight* flight = &session.activations.flights.front();
  begin(in, *flight);
  for (int64_t i = 0; i < config_.layers; ++i) layer(i, pages, {&flight, 1});
  end(*flight, velocity);
}

}  // namespace liveavatar
