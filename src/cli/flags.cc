#include "cli/flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>
#include <string_view>

#include "core/text.h"
#include "core/threads.h"
#include "ops/make_backend.h"

namespace liveavatar::cli {

namespace {

// Accepted in version 0.1; remove in the next version.
struct RenamedFlag {
  std::string_view old_name, name;
  bool was_switch = false;  // its value says whether the flag's value is int8
};
constexpr RenamedFlag kRenamedFlags[] = {{"--int8_products", "--activations_dtype", true},
                                         {"--like_original", "--reference_cost"},
                                         {"--resident_rings", "--resident_kv_caches"}};

const RenamedFlag* renamed(std::string_view name) {
  for (const RenamedFlag& flag : kRenamedFlags)
    if (flag.old_name == name) return &flag;
  return nullptr;
}

// "--num-clip" and "--num_clip" are the same.
std::string with_underscores(std::string name) {
  if (name.starts_with("--")) std::replace(name.begin() + 2, name.end(), '-', '_');
  return name;
}

// An argument as a flag of the command: "--name" or "--name=value".
struct GivenFlag {
  std::string name, value;  // value: with its "="
  const CLI::Option* option = nullptr;
  const RenamedFlag* renamed = nullptr;
};

GivenFlag as_flag(const CLI::App& command, const std::string& arg) {
  GivenFlag flag;
  if (arg.size() <= 2 || !arg.starts_with("--")) return flag;
  const size_t end = std::min(arg.find('='), arg.size());
  flag.name = with_underscores(arg.substr(0, end));
  flag.value = arg.substr(end);
  flag.renamed = renamed(flag.name);
  flag.option = command.get_option_no_throw(flag.renamed == nullptr ? flag.name : std::string(flag.renamed->name));
  return flag;
}

// --int8_products[=yes] as --activations_dtype=int8.
Expected<std::string> switch_value(const GivenFlag& flag) {
  bool on = true;
  if (!flag.value.empty() && !CLI::detail::lexical_cast(flag.value.substr(1), on))
    return invalid_argument(flag.name + flag.value + ": choose true or false");
  return std::string(on ? "=int8" : "=same");
}

}  // namespace

Expected<Arguments> read_arguments(const CLI::App& command, const std::vector<std::string>& args) {
  Arguments read;
  for (size_t i = 0; i < args.size(); ++i) {
    const GivenFlag flag = as_flag(command, args[i]);
    if (args[i] == "--" || flag.option == nullptr) {
      const size_t end = args[i] == "--" ? args.size() : i + 1;
      read.args.insert(read.args.end(), args.begin() + std::ptrdiff_t(i), args.begin() + std::ptrdiff_t(end));
      i = end - 1;
      continue;
    }
    std::string name = flag.name, value = flag.value;
    if (flag.renamed != nullptr) {
      name = flag.renamed->name;
      if (flag.renamed->was_switch) {
        LA_ASSIGN_OR_RETURN(value, switch_value(flag));
      }
      const bool says_value = flag.renamed->was_switch;
      read.notes.push_back("note: " + flag.name + (says_value ? flag.value : "") + " is now " + name +
                           (says_value ? value : ""));
    }
    read.quiet = read.quiet || name == "--quiet";
    const bool apart = value.empty() && flag.option->get_items_expected_max() > 0 && i + 1 < args.size();
    if (apart) {
      const std::string& next = args[++i];
      if (next == "--" || as_flag(command, next).option != nullptr)
        return invalid_argument(name + ": its value is missing before " + next + "; a value like that is given as " +
                                name + "=" + next);
      value = "=" + next;  // whatever it looks like, it is no flag
    }
    // The parser takes "--name=" for a flag whose value comes next.
    read.args.push_back(value == "=" ? name : name + value);
    if (value == "=") read.args.emplace_back();
  }
  return read;
}

std::vector<std::string> known_flags(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  for (const RenamedFlag& flag : kRenamedFlags) {
    if (command.get_option_no_throw(std::string(flag.name)) != nullptr) names.emplace_back(flag.old_name);
  }
  return names;
}

namespace {

// Levenshtein distance.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t change = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  // A part of a flag's name, as --steps of --sample_steps, is more telling than its letters.
  const std::string part = word.substr(std::min(word.find_first_not_of('-'), word.size()));
  for (const std::string& candidate : known) {
    if (part.size() > 2 && (candidate.ends_with("_" + part) || candidate.starts_with("--" + part + "_")))
      return candidate;
  }
  std::string best;
  size_t best_distance = word.size() / 2 + 1;  // farther than half the word is no help
  for (const std::string& candidate : known) {
    size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

namespace {

// An option that takes one of the texts of an enum; parse reads them all.
template <typename Enum>
CLI::Option* add_choice(CLI::App& app, const char* flag, Enum& value, Expected<Enum> (*parse)(const std::string&),
                        const std::vector<std::string>& texts) {
  auto set = [&value, parse](const std::string& text) { value = *parse(text); };
  return app.add_option_function<std::string>(flag, set)->check(CLI::IsMember(texts));
}

}  // namespace

CLI::Option* add_dtype(CLI::App& app, ComputeType& value) {
  return add_choice(app, "--dtype", value, parse_compute_type, {"bf16", "f32"})
      ->default_str(compute_type_name(value))
      ->description("bf16 or f32");
}

CLI::Option* add_weights_dtype(CLI::App& app, WeightsType& value) {
  return add_choice(app, "--weights_dtype", value, parse_weights_type, {"bf16", "int8", "fp8", "q4"})
      ->description(
          "The video model's large matrices: bf16, int8, fp8 or q4 (default: as --dtype);\n"
          "a half or a quarter of the memory, see docs/quantisation.md");
}

CLI::Option* add_kv_dtype(CLI::App& app, KvType& value) {
  return add_choice(app, "--kv_dtype", value, parse_kv_type, {"bf16", "int8", "fp8"})
      ->description("The video model's keys and values: bf16, int8 or fp8 (default: as --dtype)");
}

CLI::Option* add_tune(CLI::App& app, Tune& value) {
  return add_choice(app, "--tune", value, parse_tune, {"auto", "off"})
      ->default_str(tune_name(value))
      ->description(
          "On a card, before the first block: auto tries out where a library (cuBLASLt, cuDNN) is right and quicker "
          "than\n"
          "the own kernels, and keeps that on disk; off: own kernels only. See `liveavatar doctor --device cuda`");
}

CLI::Option* add_schedule(CLI::App& app, Schedule& value, const std::string& help) {
  return add_choice(app, "--schedule", value, parse_schedule, {"auto", "sequential", "wavefront"})
      ->default_str(schedule_name(value))
      ->description(help);
}

CLI::Option* add_check_finite(CLI::App& app, CheckFinite& value) {
  return add_choice(app, "--check_finite", value, parse_check_finite, {"block", "step", "layer"})
      ->default_str(check_finite_name(value))
      ->description(
          "Look for values that are not finite after each block, denoising step or layer, and name the place");
}

CLI::Option* add_on_nan(CLI::App& app, OnNan& value) {
  return add_choice(app, "--on_nan", value, parse_on_nan, {"stop", "retry"})
      ->default_str(on_nan_name(value))
      ->description(
          "Where there are such values: stop; retry: compute the block once more, in the same types, which helps "
          "where\n"
          "the machine was wrong, and not where the model is");
}

CLI::Option* add_sample_solver(CLI::App& app, SampleSolver& value) {
  return add_choice(app, "--sample_solver", value, parse_sample_solver, {"euler", "unipc", "dpm++"})
      ->default_str(sample_solver_name(value))
      ->description("euler, unipc or dpm++; the last two begin anew with each block");
}

CLI::Option* add_video_encoder(CLI::App& app, VideoEncoder& value) {
  return add_choice(app, "--video_encoder", value, parse_video_encoder, {"auto", "cpu", "nvenc"})
      ->default_str(video_encoder_name(value))
      ->description(
          "cpu; nvenc: an NVIDIA card's, H.264 or, where that refuses the size, HEVC or AV1;\n"
          "auto: with --device cuda nvenc where it opens, else cpu");
}

CLI::Option* add_activations_dtype(CLI::App& app, bool& int8_products) {
  auto set = [&int8_products](const std::string& text) { int8_products = text == "int8"; };
  return app.add_option_function<std::string>("--activations_dtype", set)
      ->check(CLI::IsMember({"same", "int8"}))
      ->default_str("same")
      ->description(
          "same: as --dtype; int8, with --weights_dtype int8 (W8A8): matrix products and attention in 8 bits where\n"
          "the CPU has them (AVX512-BF16 with VNNI, or AMX); faster, see docs/quantisation.md");
}

namespace {

template <typename Number>
bool is_whole(const std::string& text, Number& value) {
  const char* end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && at == end;
}

// "1.5 GiB" in bytes.
std::optional<double> parse_bytes(const std::string& text) {
  size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  double number = 0;
  auto [at, error] = std::from_chars(text.data(), text.data() + digits, number, std::chars_format::fixed);
  if (error != std::errc() || at != text.data() + digits) return {};
  std::string unit = lower_case(text.substr(std::min(text.find_first_not_of(' ', digits), text.size())));
  const std::string prefixes = "kmgt";
  size_t power = unit.empty() ? std::string::npos : prefixes.find(unit[0]);
  double factor = power == std::string::npos ? 1 : std::pow(1024.0, double(power + 1));
  if (power != std::string::npos) unit.erase(0, 1);
  bool known = unit.empty() || unit == "b" || (unit == "ib" && factor > 1);
  double bytes = number * factor;
  if (!known || (factor == 1 && bytes != std::floor(bytes))) return {};
  return bytes;
}

std::string to_bytes(std::string& text) {
  constexpr double kMost = 0x1p50;  // 1024 TiB
  std::optional<double> bytes = parse_bytes(text);
  if (!bytes) return text + ": give a number of bytes with a unit, as in 8GiB, 1.5g or 1536MiB";
  if (*bytes < 1) return text + ": nothing runs in that; give more, as in 8GiB, or leave the flag out for no limit";
  if (*bytes > kMost)
    return text + ": no machine has that much; give less, as in 8GiB, or leave the flag out for no limit";
  text = std::to_string(static_cast<size_t>(*bytes));
  return "";
}

std::string check_seed(const std::string& text) {
  uint64_t seed = 0;
  bool good = text == "-1" || is_whole(text, seed);
  return good ? "" : text + ": choose a whole number from 0 to 18446744073709551615, or -1";
}

// The parser itself also takes other bases, signs and quotes; whatever it takes must not be beyond the type.
template <typename Number>
std::string check_range(const std::string& text) {
  if (text.empty() || text.find_first_not_of("+-0123456789") != std::string::npos) return "";
  Number value{};
  return is_whole(text.substr(text[0] == '+' ? 1 : 0), value) ? "" : text + ": this number is too large or none";
}

std::string check_finite(const std::string& text) {
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  return std::isfinite(value) ? "" : text + ": give a finite number";
}

}  // namespace

CLI::Option* add_memory(CLI::App& app, const std::string& flag, size_t& bytes, const std::string& help) {
  return app.add_option(flag, bytes, help)->transform(CLI::Validator(to_bytes, "SIZE"));
}

CLI::Option* add_threads(CLI::App& app, int& threads) {
  return app.add_option("--threads", threads, "CPU threads (default: all this process may use)")
      ->check(CLI::Range(0, kMostThreads));
}

void add_decode_flags(CLI::App& app, EngineOptions& engine, const std::string& group) {
  app.add_option("--decode_threads", engine.decode_threads,
                 "Decode frames on so many CPU threads of their own, while the next block is sampled\n"
                 "(default: in turns)")
      ->check(CLI::Range(0, kMostThreads))
      ->group(group);
  auto in_turns = [&engine](int64_t) { engine.decode_beside = false; };
  app.add_flag_function("--no_decode_beside", in_turns,
                        "On a card: sample and decode in turns (default: decode on a stream of its own, while the\n"
                        "next block is sampled)")
      ->group(group);
}

CLI::Option* add_cache_memory(CLI::App& app, size_t& bytes) {
  return add_memory(app, "--cache_memory", bytes,
                    "With --sample_list: keep what was computed from prompts and portraits in this much memory,\n"
                    "e.g. 64MiB, for later samples with the same ones (default: nothing is kept)");
}

Status resolve_fp8(bool fp8, WeightsType& weights_dtype) {
  if (!fp8) return {};
  if (weights_dtype != WeightsType::kSameAsDtype && weights_dtype != WeightsType::kFp8)
    return invalid_argument(std::string("--fp8 and --weights_dtype ") + weights_type_name(weights_dtype) +
                            " contradict each other; leave one out");
  weights_dtype = WeightsType::kFp8;
  return {};
}

std::string threads_note(int threads) {
  if (threads <= most_threads()) return "";
  return "note: --threads " + std::to_string(threads) + ": " + std::to_string(most_threads()) +
         " are taken; more on the CPUs that this process may use would only wait for each other";
}

CLI::Option* add_seed(CLI::App& app, uint64_t& seed) {
  auto set = [&seed](const std::string& text) {
    if (text != "-1") is_whole(text, seed);
  };
  return app.add_option_function<std::string>("--base_seed", set, "Same seed, same video; -1 means 420")
      ->check(CLI::Validator(check_seed, ""))
      ->type_name("SEED");
}

void check_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    std::string type = option->get_type_name();
    if (type.starts_with("INT")) option->check(CLI::Validator(check_range<int64_t>, ""));
    if (type.starts_with("UINT")) option->check(CLI::Validator(check_range<uint64_t>, ""));
    if (type.starts_with("FLOAT")) option->check(CLI::Validator(check_finite, ""));
  }
}

}  // namespace liveavatar::cli
