// `liveavatar plan --cards`: what to run on which card, and what to expect. All of it predicted.
#pragma once

#include "core/status.h"

namespace liveavatar::cli {

// As text, or as docs/cards.md.
Status print_cards(bool markdown);

}  // namespace liveavatar::cli
