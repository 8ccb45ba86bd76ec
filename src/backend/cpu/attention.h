// Attention: packs some heads' keys and values (attention_keys.h), then takes the queries through them
// (attention_tiles.h).
#pragma once

#include <span>

#include "backend/cpu/context.h"

namespace liveavatar::cpu {

Status reserve_attention(CpuContext& context, const AttentionSize& size);
void run_attention(CpuContext& context, const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                   const Tensor& out);

}  // namespace liveavatar::cpu
