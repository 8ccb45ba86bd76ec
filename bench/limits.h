// What this machine can do at most, measured in the same run as what the kernels do.
#pragma once

#include <string>

namespace liveavatar::bench {

struct Limits {
  std::string isa;              // of the multiply-add loop: "amx", "avx512bf16", "avx512" or "avx2"
  double flops_per_s = 0;       // all threads in registers, a multiply-add counting two
  double copy_bytes_per_s = 0;  // all threads, read and written bytes of a copy far larger than the caches
};

// isa: that of the kernels to be judged. Takes about a second; the best of several goes.
Limits measure_limits(int threads, const std::string& isa);

}  // namespace liveavatar::bench
