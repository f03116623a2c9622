// Which instruction sets can run here: those of this build that the processor has and the operating system saves.
// Compiled for the baseline, like everything but the files of the instruction sets.
#include "kernels.h"

namespace bidiffsr {

const Kernels* kernels(int32_t isa) {
  switch (isa) {
    case BIDIFFSR_PORTABLE:
      return &portable_kernels;
#if defined(__x86_64__)
    case BIDIFFSR_AVX2:  // the compiler's run-time library asks CPUID, and XGETBV for the operating system
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2_kernels : nullptr;
    case BIDIFFSR_AVX512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                     __builtin_cpu_supports("avx512vpopcntdq")
                 ? &avx512_kernels
                 : nullptr;
#elif defined(__aarch64__)
    case BIDIFFSR_NEON:
      return &neon_kernels;
#endif
    default:
      return nullptr;
  }
}

}  // namespace bidiffsr

extern "C" int32_t bidiffsr_supported(int32_t isa) { return bidiffsr::kernels(isa) != nullptr; }

extern "C" int32_t bidiffsr_multiplies_bfloat16(void) {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return 0;
#endif
}
