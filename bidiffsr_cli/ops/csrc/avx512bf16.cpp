// AVX-512 with BF16 beside VPOPCNTDQ (Zen 4, Sapphire Rapids and later): one instruction multiplies 16 pairs of bfloat16 values and adds both
// products to float32 sums. It is the only thing here; the rest of such processors' work is in avx512.cpp.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16,prefer-vector-width=512")
#endif

namespace bidiffsr {
namespace {

#define LANES 16
#define UNROLL _Pragma("GCC unroll 16")
#define OWN_BFLOAT16
#include "vectors.inl"

INLINE vf fused(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

INLINE vf multiplied(const uint16_t* x, vf w, vf sum) {
  int32_t both;
  __builtin_memcpy(&both, x, 4);
  return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(both), (__m512bh)w);
}

#include "conv.inl"

}  // namespace

void convolve_by_avx512bf16(const uint16_t* const* runs, int rows, int64_t run, int64_t stride, const uint16_t* weights,
                            int64_t blocks, int64_t pixels, float* out) {
  const ConvArgs<uint16_t> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<8, 1>(args, convolve_blocks<8, 2>(args, 0));
}

}  // namespace bidiffsr

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
