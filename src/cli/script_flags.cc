#include "cli/script_flags.h"

#include <charconv>
#include <initializer_list>

#include "core/status.h"

namespace liveavatar::cli {
namespace {

enum class Takes { kNothing, kWholeNumber, kNumber, kText };

struct Flag {
  const char* name;
  Takes takes = Takes::kNothing;
};

struct Meaning {
  const char* says;
  std::vector<Flag> flags;
};

const std::vector<Meaning>& accepted() {
  static const std::vector<Meaning> meanings{
      {"the default; --devices splits the work", {{"single_gpu"}}},
      {"the text encoder's layers pass through memory one at a time, on one device", {{"t5_fsdp"}}},
      {"the kernels are compiled already and are chosen for this CPU at the start", {{"enable_compile"}}},
      {"weights are always converted while they load, to --dtype and --weights_dtype", {{"convert_model_dtype"}}},
      {"this file is not read; the LoRA's alpha is --lora_alpha (64, as in the original's file)",
       {{"training_config", Takes::kText}}},
      {"--lora_path_dmd names the LoRA, and is all that it takes", {{"load_lora"}}},
      {"a LoRA that is in the checkpoint already needs no flag; leave --lora_path_dmd out", {{"using_merged_ckpt"}}},
      {"the model is distilled to run without guidance; the original does not use it either",
       {{"sample_guide_scale", Takes::kNumber}}},
      {"no effect, in the original neither",
       {{"frame_num", Takes::kWholeNumber}, {"start_from_ref"}, {"drop_motion_noisy"}}},
      {"no data set is read; --image, --audio and --prompt say what to make",
       {{"use_dataset"}, {"dataset_sample_idx", Takes::kWholeNumber}}},
      {"the model that this program runs", {{"task", Takes::kText}}},
      {"there is no web page here; one video is made and the program ends",
       {{"server_port", Takes::kWholeNumber}, {"server_name", Takes::kText}}}};
  return meanings;
}

const std::vector<Meaning>& refused() {
  static const std::vector<Meaning> meanings{
      {"no speech is made here; make the voice with a text-to-speech program and give it as --audio FILE",
       {{"enable_tts"},
        {"tts_prompt_audio", Takes::kText},
        {"tts_prompt_text", Takes::kText},
        {"tts_text", Takes::kText}}},
      {"prompts are taken as they are; let a language model write the longer one and give it as --prompt",
       {{"use_prompt_extend"},
        {"prompt_extend_method", Takes::kText},
        {"prompt_extend_model", Takes::kText},
        {"prompt_extend_target_lang", Takes::kText}}}};
  return meanings;
}

// One "+" may stand before the number, and nothing else.
template <typename Number>
bool reads_as(const std::string& text) {
  Number value{};
  const bool plus = text.starts_with("+") && !text.starts_with("+-");
  const char *begin = text.data() + (plus ? 1 : 0), *last = text.data() + text.size();
  auto [end, error] = std::from_chars(begin, last, value);
  return error == std::errc() && end == last;
}

std::string check_whole_number(const std::string& text) {
  return reads_as<int64_t>(text) ? "" : text + " is not a whole number";
}

std::string check_number(const std::string& text) { return reads_as<double>(text) ? "" : text + " is not a number"; }

void add(CLI::App& app, const Flag& flag) {
  const std::string name = "--" + std::string(flag.name);
  CLI::Option* option = flag.takes == Takes::kNothing ? app.add_flag(name) : app.add_option(name);
  option->group("");
  // A hidden option's name is not in the parser's own message.
  auto check = [&](std::string (*type)(const std::string&), const char* what) {
    auto named = [name, type](const std::string& text) {
      std::string wrong = type(text);
      return wrong.empty() ? wrong : name + " " + wrong;
    };
    option->check(CLI::Validator(named, what));
  };
  if (flag.takes == Takes::kWholeNumber) check(check_whole_number, "INT");
  if (flag.takes == Takes::kNumber) check(check_number, "NUMBER");
}

// "--num_gpus_dit 4, --single_gpu": those of the meaning that were given.
std::string given(const CLI::App& app, const Meaning& meaning) {
  std::string text;
  for (const Flag& flag : meaning.flags) {
    const CLI::Option* option = app.get_option("--" + std::string(flag.name));
    if (option->count() == 0) continue;
    text += (text.empty() ? "--" : ", --") + std::string(flag.name);
    if (flag.takes != Takes::kNothing) text += " " + option->as<std::string>();
  }
  return text;
}

}  // namespace

void add_script_flags(CLI::App& app) {
  for (const auto* meanings : {&accepted(), &refused()}) {
    for (const Meaning& meaning : *meanings) {
      for (const Flag& flag : meaning.flags) add(app, flag);
    }
  }
}

Status check_script_flags(const CLI::App& app) {
  for (const Meaning& meaning : refused()) {
    std::string flags = given(app, meaning);
    if (!flags.empty()) return invalid_argument(flags + ": " + meaning.says);
  }
  const CLI::Option* task = app.get_option("--task");
  if (task->count() > 0 && task->as<std::string>() != "s2v-14B")
    return invalid_argument("--task " + task->as<std::string>() + ": this program runs s2v-14B only; leave --task out");
  return {};
}

std::vector<std::string> explain_script_flags(const CLI::App& app) {
  std::vector<std::string> lines;
  for (const Meaning& meaning : accepted()) {
    std::string flags = given(app, meaning);
    if (!flags.empty()) lines.push_back(flags + ": " + meaning.says);
  }
  return lines;
}

bool is_web_page_script(const CLI::App& app) { return app.count("--server_port") + app.count("--server_name") > 0; }

}  // namespace liveavatar::cli
