#include "cli/cards_table.h"

#include <cstdio>
#include <string>
#include <vector>

#include "plan/card_advice.h"
#include "plan/suggestions.h"

namespace liveavatar::cli {
namespace {

constexpr const char* kMarkdownHead =
    R"(# What runs on which card

*Predicted.* Nothing of this table was measured: no card has run this program yet. The frame rates come from data
sheets and from assumptions that nobody has checked: 65 % of the dense rate with sums in f32, 85 % of the bandwidths, a
disk of 3 GB/s ([the time model](plan.md#the-time-model)). The memory is planned as for every job. To report what your
card does, open an issue with the output of `liveavatar doctor` and of this line, with the flags of your row:
`liveavatar bench --synthetic --shape 14b --device cuda --size SIZE --json report.json`, and that file.

Each row is the 14B model with four steps, 48 frames a clip, a minute of video. A video has 25 frames a second, so a card
with fewer is slower than real time. What does not fit on the card waits in host memory, of which a machine is taken to
give 24 GiB. Of the types with which nothing goes to disk, the widest within 5 % of the fastest are chosen; where there
are none, those with the fewest bytes from and to disk. Add `--device cuda --size SIZE` to the flags (to `plan` also
`--num_clip 31`, to `bench` `--blocks 125`: a minute); `DIR` is a folder on a fast disk. What int8 and q4 lose is in [quantisation.md](quantisation.md), what paging does in
[paging.md](paging.md). Narrow weights are multiplied in bf16 here; `--activations_dtype int8` multiplies int8 weights
in 8 bits. "Limit" is what takes the most time. Host memory is a peak, in whole GiB.

The rows of h100, h200 and b200 are the least certain: those cards reach their full rates with instructions (`wgmma`,
`tcgen05`) that our kernels do not use. An l4 has 72 W, which may not be enough for its clock.

`liveavatar plan --cards --markdown` wrote this file; a test compares them. Other jobs: `liveavatar plan
--device_profile rtx4090 ...`.

)";

std::string flags_of(const CardAdvice& a) {
  const JobShape& r = a.shape;
  std::string flags = std::string("--weights_dtype ") + r.weights_name() + " --kv_dtype " + r.kv_name();
  if (!r.paged() && !r.kv_caches_paged()) return flags;
  flags += " --memory_budget " + mib_text(a.budget_bytes) + " --host_budget " + mib_text(kAdvisedHostBytes);
  return a.work.disk_bytes > 0 ? flags + " --paging_dir DIR" : flags;
}

std::string on_card(const JobShape& r) {
  if (!r.paged() && !r.kv_caches_paged()) return "everything";
  std::string text = std::to_string(r.resident()) + " of " + std::to_string(r.shapes.dit.layers) + " layers";
  if (!r.kv_caches_paged()) return text;
  return text + ", " + std::to_string(r.kv_caches().in_memory()) + " of " + std::to_string(r.kv_caches().count()) +
         " KV caches";
}

using Row = std::vector<std::string>;

Row row_of(const CardAdvice& a, bool markdown) {
  if (!a.fits) return {a.device.name, a.size, "does not fit", "", "", "", "", ""};
  char gib[32], host_gib[32], frames_per_s[32];
  constexpr size_t kGib = size_t{1} << 30;
  std::snprintf(gib, sizeof(gib), "%.1f", double(a.plan.peak_bytes) / double(kGib));
  std::snprintf(host_gib, sizeof(host_gib), "%zu", (a.plan.host.peak_bytes + kGib - 1) / kGib);
  std::snprintf(frames_per_s, sizeof(frames_per_s), "%.1f", a.prediction.frames_per_s());
  const std::string flags = markdown ? "`" + flags_of(a) + "`" : flags_of(a);
  return {a.device.name, a.size,   flags,        on_card(a.shape),
          gib,           host_gib, frames_per_s, limit_name(a.prediction.limit())};
}

const Row kHead = {"card", "size", "flags", "on the card", "card GiB", "host GiB", "frames/s", "limit"};

void print_markdown(const std::vector<Row>& rows) {
  auto print = [](const Row& row) {
    for (const std::string& cell : row) std::printf("| %s ", cell.c_str());
    std::printf("|\n");
  };
  std::fputs(kMarkdownHead, stdout);
  print(kHead);
  print(Row(kHead.size(), "---"));
  for (const Row& row : rows) print(row);
}

void print_text(const std::vector<Row>& rows) {
  auto print = [](const Row& r) {
    std::printf("%-10s %-8s %8s %-11s %8s %8s  %-36s %s\n", r[0].c_str(), r[1].c_str(), r[6].c_str(), r[7].c_str(),
                r[4].c_str(), r[5].c_str(), r[3].c_str(), r[2].c_str());
  };
  std::printf("The 14B model on cards, predicted, not measured (docs/cards.md). Add --device cuda --size SIZE.\n\n");
  print(kHead);
  for (const Row& row : rows) print(row);
}

}  // namespace

Status print_cards(bool markdown) {
  LA_ASSIGN_OR_RETURN(std::vector<CardAdvice> cards, advise_cards());
  std::vector<Row> rows;
  rows.reserve(cards.size());
  for (const CardAdvice& a : cards) rows.push_back(row_of(a, markdown));
  if (markdown) {
    print_markdown(rows);
  } else {
    print_text(rows);
  }
  return {};
}

}  // namespace liveavatar::cli
