#include <cstdio>
#include <exception>
#include <fstream>

#include "emulated_cuda.h"
#include "golden.h"
#include "ops/make_backend.h"
#include "test_device.h"

namespace liveavatar::golden {
namespace {

constexpr const char* kHelp =
    "golden_check [--device reference|cpu|test|cuda|cuda-emulated] [--dtype f32|bf16] [--threads N]\n"
    "             [--weights_dtype bf16|int8|fp8|q4] [--kv_dtype bf16|int8|fp8] [--activations_dtype int8] [--bits]\n"
    "             [--devices cpu:N [--ulysses_size U] [--enable_vae_parallel] [--dit_fsdp]] DIR...\n"
    "Runs the golden.json of every DIR and compares with the tensors of the Python original.\n"
    "test: the reference backend behind a queue, in memory that the host cannot touch. cuda-emulated: the CUDA\n"
    "backend and its kernels, on an emulated device. cuda: on a card.\n"
    "A line a tensor, then 'N passed, M failed'; exit code 1 on any miss. LIVEAVATAR_ISA forces a kernel path.\n"
    "With narrower types of the video model the limits do not hold: what is beyond them is 'far', and counts as "
    "passed. --bits: a checksum of every tensor beside its figures. --devices: whole jobs on "
    "several ranks.\n";

struct Options {
  std::string device = "cpu", dtype = "f32", weights_dtype, kv_dtype;
  bool int8_products = false, bits = false;
  int threads = 0;
  EngineOptions ranks;
  std::vector<std::string> dirs;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    bool has_value = i + 1 < argc;
    if (arg == "--device" && has_value) {
      options.device = argv[++i];
    } else if (arg == "--dtype" && has_value) {
      options.dtype = argv[++i];
    } else if (arg == "--weights_dtype" && has_value) {
      options.weights_dtype = argv[++i];
    } else if (arg == "--kv_dtype" && has_value) {
      options.kv_dtype = argv[++i];
    } else if (arg == "--activations_dtype" && has_value) {
      options.int8_products = std::string(argv[++i]) == "int8";
    } else if (arg == "--bits") {
      options.bits = true;
    } else if (arg == "--devices" && has_value) {
      options.ranks.devices = argv[++i];
    } else if (arg == "--ulysses_size" && has_value) {
      options.ranks.ulysses_size = std::atoi(argv[++i]);
    } else if (arg == "--enable_vae_parallel") {
      options.ranks.vae_parallel = true;
    } else if (arg == "--dit_fsdp") {
      options.ranks.shard_weights = true;
    } else if (arg == "--threads" && has_value) {
      options.threads = std::atoi(argv[++i]);
    } else if (arg.starts_with("-")) {
      return false;
    } else {
      options.dirs.push_back(arg);
    }
  }
  return !options.dirs.empty() && (options.dtype == "f32" || options.dtype == "bf16");
}

// What every folder is run on.
struct Machine {
  std::unique_ptr<DeviceSource> device;  // null: the host
  Budget host_budget;
  std::unique_ptr<Budget> budget;
  std::unique_ptr<Backend> backend;
};

Status open(const Options& options, Machine& machine) {
  BackendOptions how{.threads = options.threads, .int8_products = options.int8_products};
  if (options.device == "test") machine.device = std::make_unique<TestDevice>(TestDeviceOptions{.most_delay_us = 50});
  if (options.device == "cuda-emulated") {
    machine.device = emulated_cuda();
    if (machine.device == nullptr) return unsupported("no device emulation in this build");
  }
  if (is_card(options.device)) {
    LA_ASSIGN_OR_RETURN(machine.device, open_card_device(options.device));
  }
  if (machine.device != nullptr) {
    machine.budget = std::make_unique<Budget>(Budget::kUnlimited, machine.device->allocator(), machine.host_budget);
    how.budget = machine.budget.get();
    LA_ASSIGN_OR_RETURN(machine.backend, machine.device->open(how));
    return {};
  }
  machine.budget = std::make_unique<Budget>();
  how.budget = machine.budget.get();
  LA_ASSIGN_OR_RETURN(machine.backend, make_backend(options.device, how));
  return {};
}

// Of the text and the audio encoder in whole jobs. Beside the test device: what it is compared with to the bit.
std::string host_device(const std::string& device) {
  if (device == "test") return "reference";
  return device == "cuda-emulated" || is_card(device) ? "cpu" : device;
}

void run_folder(const std::string& dir, const Options& options, const Machine& machine, const Kinds& kinds,
                Report& report) {
  std::printf("== %s (%s, %s)\n", dir.c_str(), options.device.c_str(), options.dtype.c_str());
  try {
    std::ifstream file(dir + "/golden.json");
    if (!file) throw std::runtime_error("no golden.json in " + dir);
    Golden golden;
    golden.dir = dir;
    golden.json = nlohmann::json::parse(file);
    golden.backend = machine.backend.get();
    golden.budget = machine.budget.get();
    golden.source = machine.device.get();
    golden.device = host_device(options.device);
    golden.dtype = options.dtype == "bf16" ? DType::kBF16 : DType::kF32;
    golden.weights_dtype = options.weights_dtype;
    golden.kv_dtype = options.kv_dtype;
    golden.int8_products = options.int8_products;
    golden.ranks = options.ranks;
    golden.report = &report;
    if (std::ifstream(dir + "/io.safetensors")) {
      auto io = open_safetensors(dir + "/io.safetensors");
      if (!io.ok()) throw std::runtime_error(io.status().message());
      golden.io = *io;
    }
    std::string kind = golden.json.at("kind");
    auto it = kinds.find(kind);
    if (it == kinds.end()) throw std::runtime_error("unknown kind '" + kind + "'");
    int before = report.passed() + report.failed();
    it->second(golden);
    if (report.passed() + report.failed() == before) throw std::runtime_error("nothing was compared");
  } catch (const std::exception& e) {
    report.line(false, dir, e.what());
  }
}

}  // namespace

int run(int argc, char** argv, const Kinds& kinds) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fputs(kHelp, stderr);
    return 2;
  }
  Machine machine;
  if (Status status = open(options, machine); !status.ok()) {
    std::fprintf(stderr, "golden_check: %s\n", status.message().c_str());
    return 2;
  }
  Report report;
  report.bits = options.bits;
  report.measuring = !options.weights_dtype.empty() || !options.kv_dtype.empty();
  for (const std::string& dir : options.dirs) run_folder(dir, options, machine, kinds, report);
  std::printf("%d passed, %d failed\n", report.passed(), report.failed());
  return report.failed() == 0 ? 0 : 1;
}

}  // namespace liveavatar::golden
