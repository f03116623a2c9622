// Which instruction sets can run here: those of this build that the processor has and the operating system saves.
// Compiled for the baseline, like everything but the files of the instruction sets.
//
// The processor is asked here, and not by __builtin_cpu_supports: that rests on the compiler's run-time library, and zig's
// says no to everything. Bits are those of Intel's manual, volume 2, CPUID, and volume 1, 13.2 (XCR0).
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <initializer_list>
#endif

namespace bidiffsr {

#if defined(__x86_64__)
namespace {

struct Processor {
  bool avx2 = false, avx512 = false, bfloat16 = false;

  Processor() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, {12, 27, 28})) return;  // FMA, OSXSAVE, AVX
    unsigned saved, high;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!has(saved, {1, 2}) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;  // XMM, YMM
    avx2 = has(b, {5});
    avx512 = avx2 && has(saved, {5, 6, 7}) && has(b, {16, 17, 30, 31}) && has(c, {14});  // F, DQ, BW, VL; VPOPCNTDQ
    bfloat16 = avx512 && a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, {5});
  }

  static bool has(unsigned word, std::initializer_list<int> bits) {
    for (int bit : bits)
      if (!(word >> bit & 1)) return false;
    return true;
  }
};

const Processor& processor() {
  static const Processor found;
  return found;
}

}  // namespace

bool multiplies_bfloat16() { return processor().bfloat16; }
#else
bool multiplies_bfloat16() { return false; }
#endif

const Kernels* kernels(int32_t isa) {
  switch (isa) {
    case BIDIFFSR_PORTABLE:
      return &portable_kernels;
#if defined(__x86_64__)
    case BIDIFFSR_AVX2:
      return processor().avx2 ? &avx2_kernels : nullptr;
    case BIDIFFSR_AVX512:
      return processor().avx512 ? &avx512_kernels : nullptr;
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

extern "C" int32_t bidiffsr_multiplies_bfloat16(void) { return bidiffsr::multiplies_bfloat16(); }
