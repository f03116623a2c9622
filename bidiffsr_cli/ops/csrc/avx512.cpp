// AVX-512 with VPOPCNTDQ (Ice Lake and Zen 4 onwards): a 32-bit lane is one output channel; xor, vpopcntd, add make 512
// binary multiply-adds. A tile of pixels × outputs stays in the 32 registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,prefer-vector-width=512")
#endif

namespace bidiffsr {
namespace {

#define LANES 16
#include "rows.inl"

constexpr int BLOCK = 16, WORD_BYTES = 4, PIXELS = 8;

void store_weights(const uint32_t* words, uint8_t* out) { __builtin_memcpy(out, words, 64); }

void pack_row(const float* x, int64_t x_stride, int64_t pixels, int64_t channels, const float* shift, uint8_t* bits) {
  for (int64_t pixel = 0; pixel < pixels; pixel++, x += x_stride)
    for (int64_t c = 0; c < channels; c += 32, bits += 4) {
      uint32_t word = 0;
      for (int64_t half = 0; half < 32 && c + half < channels; half += 16) {
        const int64_t left = channels - c - half;
        const __mmask16 there = left < 16 ? (1u << left) - 1 : 0xffff;
        const __m512 v = _mm512_add_ps(_mm512_maskz_loadu_ps(there, x + c + half),
                                       _mm512_maskz_loadu_ps(there, shift + c + half));
        word |= uint32_t(_mm512_mask_cmp_ps_mask(there, v, _mm512_setzero_ps(), _CMP_GE_OQ)) << half;
      }
      __builtin_memcpy(bits, &word, 4);
    }
}

// GCC 12 keeps the accumulators in memory unless each of these loops is unrolled by order.
#define UNROLL _Pragma("GCC unroll 16")

template <int P, int V>  // P pixels, V vectors of 16 outputs each
INLINE void tile(const uint8_t* const* runs, int rows, int64_t run, int64_t pixel_stride, const uint8_t* weights,
                 int64_t block_bytes, uint16_t* counts, int64_t counts_stride) {
  __m512i sum[P][V];
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < V; v++) sum[p][v] = _mm512_setzero_si512();
  for (int r = 0; r < rows; r++) {
    const uint8_t* bits = runs[r];
    for (int64_t i = 0; i < run; i++, bits += 4, weights += 64) {
      __m512i w[V];
      UNROLL for (int v = 0; v < V; v++) w[v] = _mm512_loadu_si512(weights + v * block_bytes);
      UNROLL for (int p = 0; p < P; p++) {
        int32_t word;
        __builtin_memcpy(&word, bits + p * pixel_stride, 4);
        const __m512i a = _mm512_set1_epi32(word);
        UNROLL for (int v = 0; v < V; v++)
          sum[p][v] = _mm512_add_epi32(sum[p][v], _mm512_popcnt_epi32(_mm512_xor_si512(a, w[v])));
      }
    }
  }
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < V; v++)
      store(counts + p * counts_stride + v * 16, __builtin_convertvector((vu)sum[p][v], vh));
}

#include "count.inl"

void count(const uint8_t* const* runs, int rows, int64_t run, int64_t pixel_stride, const uint8_t* weights,
           int64_t blocks, int64_t pixels, uint16_t* counts) {
  const CountArgs args = {runs, rows, run, pixel_stride, weights, blocks, pixels, counts};
  count_blocks<8, 1>(args, count_blocks<8, 2>(args, count_blocks<4, 4>(args, 0)));
}

INLINE vf fused(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

#include "conv.inl"
#include "winograd.inl"

void convolve(const float* const* runs, int rows, int64_t run, int64_t stride, const float* weights, int64_t blocks,
              int64_t pixels, float* out) {
  const ConvArgs<float> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<PIXELS, 1>(args, convolve_blocks<PIXELS, 2>(args, 0));
}

void convolve_bf16(const uint16_t* const* runs, int rows, int64_t run, int64_t stride, const uint16_t* weights,
                   int64_t blocks, int64_t pixels, float* out) {
  if (multiplies_bfloat16()) return convolve_by_avx512bf16(runs, rows, run, stride, weights, blocks, pixels, out);
  const ConvArgs<uint16_t> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<8, 1>(args, convolve_blocks<6, 2>(args, 0));
}

double peak(int64_t repeats) {
  constexpr int N = 16;
  __m512i sum[N];
  UNROLL for (int i = 0; i < N; i++) sum[i] = _mm512_set1_epi32(i);
  for (int64_t k = 0; k < repeats; k++) {
    const __m512i a = _mm512_set1_epi32(int32_t(k));
    UNROLL for (int i = 0; i < N; i++)
      sum[i] = _mm512_add_epi32(sum[i], _mm512_popcnt_epi32(_mm512_xor_si512(a, sum[i])));
  }
  UNROLL for (int i = 0; i < N; i++) asm volatile("" ::"v"(sum[i]));  // keeps the loop
  return double(repeats) * N * 512;
}

}  // namespace

const Kernels avx512_kernels = {WORD_BYTES, BLOCK, LANES, PIXELS, store_weights, pack_row, count, finish,
                                activate<float>, activate<uint16_t>, convolve, convolve_bf16, winograd_input, winograd_output, add_bias, softmax, moments, peak};

}  // namespace bidiffsr

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
