#include "models/s2v_dit/s2v_dit.h"

#include <algorithm>

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

Expected<std::unique_ptr<S2vDit>> S2vDit::load_shard(const DitConfig& config, const DitTypes& types,
                                                     const RankShare& share, WeightAllocator& loader, Backend& backend,
                                                     Budget& budget) {
  std::unique_ptr<S2vDit> dit(new S2vDit(config, backend, types));
  LA_ASSIGN_OR_RETURN(dit->shard_, ShardDit::load(config, types, share, backend, loader, budget));
  if (budget.dry_run()) return dit;
  dit->weights_.common = view_dit_common(config, backend, types, dit->shard_->pages.front());
  LA_RETURN_IF_ERROR(dit->read_back_shares());
  return dit;
}

Status S2vDit::read_page(size_t page, const PageRange& range, std::byte* target) const {
  const std::byte* own = shard_->pages[page + 1].data();
  LA_CHECK(own != nullptr);
  return backend_.allocator().read(own + range.begin, target, range.bytes);
}

std::unique_ptr<S2vDit> S2vDit::beside(Backend& backend) const {
  LA_CHECK(!beside_ && !shard_ && backend.packing() == backend_.packing() && backend.device() == backend_.device());
  std::unique_ptr<S2vDit> dit(new S2vDit(config_, backend, types_));
  dit->weights_.common = weights_.common;
  dit->weights_.groups = weights_.groups;
  dit->layer_shares_ = layer_shares_;
  dit->packed_ = packed_;
  return dit;
}

// The host mixes the audio encoder's hidden states, so it reads their weights back from the device.
Status S2vDit::read_back_shares() {
  const Tensor& shares = weights_.common.audio.layer_shares;
  layer_shares_.resize(static_cast<size_t>(shares.elements()));
  return backend_.allocator().read(static_cast<const std::byte*>(shares.address()), layer_shares_.data(),
                                   shares.bytes());
}

Expected<std::unique_ptr<DitWeightGroups>> S2vDit::open_weight_groups(const DitAccess& access, Budget& budget,
                                                                      const std::stop_token& stop) const {
  if (!packed_ && !beside_ && !shard_)
    return std::unique_ptr<DitWeightGroups>(new ResidentWeightGroups(weights_.groups));
  LA_CHECK(!shard_ || budget.dry_run() || peers_ != nullptr);
  Expected<DitPages> pages = [&]() -> Expected<DitPages> {
    if (shard_) return shard_->layers(config_, types_, budget.dry_run() ? nullptr : peers_);
    return beside_ ? beside_->layers(config_, types_, budget.dry_run()) : packed_->pages(budget.dry_run());
  }();
  LA_RETURN_IF_ERROR(pages.status());
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DitWeightGroups> groups,
                      PagedWeightGroups::open(*std::move(pages), access, backend_, budget, stop));
  return groups;
}

PassBytes S2vDit::paged_bytes(const Residency& residency) const {
  if (packed_) return liveavatar::paged_bytes(config_, packed_->spans(), residency);
  PassBytes bytes;
  if (shard_) {
    const std::vector<DitWeightGroup> groups = dit_weight_groups(config_);
    for (size_t p = 0; p < groups.size(); ++p) {
      const bool own = shard_->pages[p + 1].bytes() > 0;
      bytes.add(groups[p].part, shard_->bytes[p + 1], own ? PagePlace::kLent : PagePlace::kHost);
    }
    return bytes;
  }
  if (beside_) {
    bytes = liveavatar::paged_bytes(config_, beside_->layers(config_, types_, true).spans, residency);
    bytes.pass.disk = bytes.block.disk = 0;
    return bytes;
  }
  return liveavatar::paged_bytes(config_, PackedDit::planned(config_, backend_, types_).spans(), {config_.layers});
}

void S2vDit::observe_product(const DitSession& s, const Product& name, const Tensor& x, const LinearWeight& w,
                             const Tensor& scratch) const {
  if (!s.observer) return;
  ops::linear(backend_, x, w, scratch);
  observe(s, name.group, name.i, name.part, scratch);
}

// Tokens of `to` = patches of latents through w, plus the token type embedding.
void S2vDit::embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, TokenType type,
                   const TokenPart& to) const {
  DitActivations& a = to.f.session->activations;
  Tensor patches = a.patches.front({to.rows.count, w.k});
  ops::patchify(backend_, latents, patch, patches);
  const Tensor embedding = weights_.common.token_type.slice(static_cast<int64_t>(type), 1).reshape({config_.dim});
  for_each_own(to, [&](int64_t row, const Tensor& x) {
    ops::linear(backend_, patches.slice(row - to.rows.first, x.dim(0)), w, x);
    ops::add(backend_, x, embedding, x);
  });
}

// The sum of the layer's learned modulation and the timestep's: rows 0..2 for self-attention, rows 3..5 for the FFN.
S2vDit::AdaLn S2vDit::ada_ln(int64_t layer, int64_t first_row, const ForwardState& f) const {
  Tensor sum = f.session->activations.modulation.slice(first_row, 3);
  ops::add(backend_, weights_.common.modulation[static_cast<size_t>(layer)].slice(first_row, 3),
           f.time->projection.slice(first_row, 3), sum);
  return {modulate(sum, 0), sum.slice(2, 1)};
}

// x += CrossAttention(LN3(x), prompt)
void S2vDit::cross_attention(int64_t layer, const DitCrossAttentionWeights& w, ForwardState& f, const Tensor& x) const {
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), attended = a.attended.slice(0, tokens);
  ops::layer_norm_affine(backend_, x, config_.eps, w.norm_weight, w.norm_bias, y);
  ops::linear(backend_, y, w.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.norm_q, q);
  const KeyValues text = f.session->caches.text.layers[static_cast<size_t>(layer)];
  ops::attention(backend_, q, {&text, 1}, wide_attention(config_.heads), attended);
  observe_product(*f.session, {"block", layer, ".cross_attn"}, attended, w.o, q);
  ops::linear(backend_, attended, w.o, x, {.residual = x});
}

// x += gate2 * FFN(LN2(x) modulated)
void S2vDit::feed_forward(int64_t layer, DitFfnGroups& w, ForwardState& f, const Tensor& x) const {
  DitActivations& a = f.session->activations;
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), hidden = a.hidden.slice(0, tokens);
  AdaLn ada = ada_ln(layer, 3, f);
  ops::layer_norm(backend_, x, config_.eps, y, ada.norm);
  ops::linear(backend_, y, w.first().in, hidden, {.activation = Activation::kGeluTanh});
  const LinearWeight& out = w.second().out;
  observe_product(*f.session, {"block", layer, ".ffn"}, hidden, out, q);
  ops::linear(backend_, hidden, out, x, {.gate = ada.gate, .residual = x});
}

void S2vDit::prefill(const Tensor& reference, const Tensor& motion, DitWeightGroups& weights,
                     DitSession& session) const {
  const DitGeometry& g = session.geometry;
  DitActivations& a = session.activations;
  const DitCommonWeights& w = weights_.common;
  ForwardState& f = a.forwards.front();
  Tensor x = f.x.slice(0, g.own_sink_tokens());
  const TokenLayout sink = g.sink_layout();
  int64_t n = g.latent_tokens();
  embed(reference, kPatch, w.patch, TokenType::kReference, {f, sink, {0, n}});
  // Newest motion latents first: one at full resolution, two at half, sixteen at a quarter.
  Tensor one = motion_latents(backend_, motion, kMotion4x + kMotion2x, kMotion1x, a);
  embed(one, kPatch, w.pack_1x, TokenType::kMotion, {f, sink, {n, n}});
  Tensor two = motion_latents(backend_, motion, kMotion4x, kMotion2x, a);
  embed(two, kPatch2x, w.pack_2x, TokenType::kMotion, {f, sink, {2 * n, g.tokens_2x()}});
  Tensor sixteen = motion_latents(backend_, motion, 0, kMotion4x, a);
  embed(sixteen, kPatch4x, w.pack_4x, TokenType::kMotion, {f, sink, {2 * n + g.tokens_2x(), g.tokens_4x()}});
  encode_time(0, session.caches.time.back(), f);
  fill_sink_rope(config_, g, 0, Upload(backend_, f.sink_rope).values());
  ForwardState* const forwards[] = {&f};
  DitUses uses = uses_of(forwards);
  uses.audio = uses.audio_keys = false;
  weights.expect(uses);
  project_time(weights, forwards);
  embed_prompt(weights, forwards);
  for (int64_t i = 0; i < config_.layers && weights.status().ok() && !session.stop.stop_requested(); ++i) {
    {
      DitSelfAttentionGroups groups = self_attention_groups(weights, i, 1);
      prefill_self_attention(i, groups, f, x);
    }
    project_text(i, weights, forwards);
    cross_attention(i, *acquire<DitCrossAttentionWeights>(weights, i), f, x);
    DitFfnGroups groups = ffn_groups(weights, i, 1);
    feed_forward(i, groups, f, x);
  }
}

void S2vDit::begin(const BlockInputs& in, ForwardState& f) const {
  const DitGeometry& g = f.session->geometry;
  DitActivations& a = f.session->activations;
  const DitCommonWeights& w = weights_.common;
  f.in = in;
  const TokenPart block{f, g.block_layout(), {0, g.block_tokens()}};
  if (in.pose.empty()) ops::fill(backend_, a.zero_pose, 0);
  embed(in.latents, kPatch, w.patch, TokenType::kNoisy, block);
  Tensor pose_patches = a.patches.front({g.block_tokens(), w.pose_patch.k});
  ops::patchify(backend_, in.pose.empty() ? a.zero_pose : in.pose, kPatch, pose_patches);
  for_each_own(block, [&](int64_t row, const Tensor& x) {
    ops::linear(backend_, pose_patches.slice(row, x.dim(0)), w.pose_patch, x, {.residual = x});
  });
  encode_time(in.timestep, f.session->caches.time[static_cast<size_t>(in.step)], f);
  observe(*f.session, "time_embedding", f.time->embedding);
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
  if (i == 0) {
    weights.expect(uses_of(forwards));
    project_time(weights, forwards);
    embed_prompt(weights, forwards);
    for (ForwardState* f : forwards) observe(*f->session, "time_projection", f->time->projection);
  }
  const auto count = static_cast<int64_t>(forwards.size());
  auto rows = [](const ForwardState& f) { return f.x.slice(0, f.session->geometry.own_block_tokens()); };
  {
    DitSelfAttentionGroups groups = self_attention_groups(weights, i, count);
    for (ForwardState* f : forwards) self_attention(i, groups, *f, rows(*f));
  }
  project_text(i, weights, forwards);
  {
    DitWeightGuard group = acquire<DitCrossAttentionWeights>(weights, i);
    for (ForwardState* f : forwards) cross_attention(i, *group, *f, rows(*f));
  }
  {
    DitFfnGroups groups = ffn_groups(weights, i, count);
    for (ForwardState* f : forwards) feed_forward(i, groups, *f, rows(*f));
  }
  for (ForwardState* f : forwards) observe(*f->session, "block", i, "", rows(*f));
  if (config_.audio_attention_of(i) < 0) return;
  project_audio(i, weights, forwards);
  DitWeightGuard group = acquire<DitAudioAttentionWeights>(weights, i);
  for (ForwardState* f : forwards) audio_cross_attention(i, *group, *f);
}

// For every actor: x += mask * cross-attention of each latent frame's tokens to the audio of that frame.
void S2vDit::audio_cross_attention(int64_t layer, const DitAudioAttentionWeights& w, ForwardState& forward) const {
  DitSession& session = *forward.session;
  const DitGeometry& g = session.geometry;
  DitActivations& a = session.activations;
  const std::span<const AudioTokens> audio = forward.audio();
  int64_t j = config_.audio_attention_of(layer);
  int64_t tokens = g.own_block_tokens(), n = g.own_latent_tokens(), keys = config_.audio_tokens + 1;
  Tensor x = forward.x.slice(0, tokens), y = a.y.slice(0, tokens), q = a.q.slice(0, tokens),
         attended = a.attended.slice(0, tokens);
  bool many = audio.size() > 1;
  for (size_t actor = 0; actor < audio.size(); ++actor) {
    const KeyValues& kv = audio[actor].kv[static_cast<size_t>(j)];
    ops::layer_norm(backend_, x, 1e-5f, y, audio[actor].adain[static_cast<size_t>(j)]);
    observe(session, "adain", j, "", y);
    ops::linear(backend_, y, w.q, q);
    ops::rms_norm(backend_, q, config_.eps, w.norm_q, q);
    for (int64_t f = 0; f < g.block_latents; ++f) {
      const KeyValues frame{kv.k.slice(f * keys, keys), kv.v.slice(f * keys, keys)};
      ops::attention(backend_, q.slice(f * n, n), {&frame, 1}, {.heads = config_.heads, .scale = attention_scale()},
                     attended.slice(f * n, n));
    }
    observe_product(session, {"audio_injector", j, ""}, attended, w.o, q);
    // Every actor reads the same x, so the sum over several actors has its own buffer.
    Epilogue epilogue;
    if (many && !forward.in.actor_masks.empty())
      epilogue.gate = actor_gate(forward.in.actor_masks.slice(int64_t(actor), 1), session);
    if (!many || actor > 0) epilogue.residual = many ? a.audio_sum : x;
    ops::linear(backend_, attended, w.o, many ? a.audio_sum : x, epilogue);
  }
  if (many) ops::add(backend_, x, a.audio_sum, x);
}

void S2vDit::end(ForwardState& f, const Tensor& velocity) const {
  const DitGeometry& g = f.session->geometry;
  int64_t tokens = g.own_block_tokens();
  DitActivations& a = f.session->activations;
  Tensor x = f.x.slice(0, tokens), y = a.y.slice(0, tokens);
  ops::add(backend_, weights_.common.head_modulation, f.time->embedding.reshape({config_.dim}), a.head_modulation);
  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.head_modulation, 0));
  ops::linear(backend_, y, weights_.common.head, g.share.whole() ? a.head : a.own_head);
  if (!g.share.whole()) f.session->exchange->gather(g.block_layout(), a.own_head, a.head);
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
