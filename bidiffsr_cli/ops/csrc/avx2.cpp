// AVX2: no popcount for vectors, but a byte shuffle that looks up 32 tables at once. A nibble of activations, four
// channels of one pixel, selects one of 16 constant tables T[a][w] = popcount(a ^ w); the nibbles of 32 output channels'
// weights are the shuffle's indices: shuffle and add make 128 binary multiply-adds.
//
// Full-precision convolutions multiply and add at once (FMA, which every processor with AVX2 but a few of VIA's has).
//
// A word is 8 nibbles, low ones first, a byte each: activations as nibble << 4, which is their table's offset; weights as
// they are, those of 32 outputs side by side.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

namespace bidiffsr {
namespace {

#define LANES 8
#include "rows.inl"

constexpr int BLOCK = 32, WORD_BYTES = 8, PIXELS = 6;

alignas(64) const uint8_t T[16][16] = {
    {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4}, {1, 0, 2, 1, 2, 1, 3, 2, 2, 1, 3, 2, 3, 2, 4, 3},
    {1, 2, 0, 1, 2, 3, 1, 2, 2, 3, 1, 2, 3, 4, 2, 3}, {2, 1, 1, 0, 3, 2, 2, 1, 3, 2, 2, 1, 4, 3, 3, 2},
    {1, 2, 2, 3, 0, 1, 1, 2, 2, 3, 3, 4, 1, 2, 2, 3}, {2, 1, 3, 2, 1, 0, 2, 1, 3, 2, 4, 3, 2, 1, 3, 2},
    {2, 3, 1, 2, 1, 2, 0, 1, 3, 4, 2, 3, 2, 3, 1, 2}, {3, 2, 2, 1, 2, 1, 1, 0, 4, 3, 3, 2, 3, 2, 2, 1},
    {1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3}, {2, 1, 3, 2, 3, 2, 4, 3, 1, 0, 2, 1, 2, 1, 3, 2},
    {2, 3, 1, 2, 3, 4, 2, 3, 1, 2, 0, 1, 2, 3, 1, 2}, {3, 2, 2, 1, 4, 3, 3, 2, 2, 1, 1, 0, 3, 2, 2, 1},
    {2, 3, 3, 4, 1, 2, 2, 3, 1, 2, 2, 3, 0, 1, 1, 2}, {3, 2, 4, 3, 2, 1, 3, 2, 2, 1, 3, 2, 1, 0, 2, 1},
    {3, 4, 2, 3, 2, 3, 1, 2, 2, 3, 1, 2, 1, 2, 0, 1}, {4, 3, 3, 2, 3, 2, 2, 1, 3, 2, 2, 1, 2, 1, 1, 0},
};

// Bytes become 16 bits within each half of a register, so the second and the third eight outputs change places.
void store_weights(const uint32_t* words, uint8_t* out) {
  static const int order[4] = {0, 2, 1, 3};
  uint32_t ordered[32];
  for (int i = 0; i < 32; i++) ordered[i] = words[order[i / 8] * 8 + i % 8];
  for (int nibble = 0; nibble < 8; nibble++, out += 32)
    for (int i = 0; i < 32; i++) out[i] = ordered[i] >> (4 * nibble) & 15;
}

void pack_row(const float* x, int64_t x_stride, int64_t pixels, int64_t channels, const float* shift, uint8_t* bits) {
  for (int64_t pixel = 0; pixel < pixels; pixel++, x += x_stride) {
    for (int64_t c = 0; c < words_of(channels) * 32; c += 8, bits += 2) {
      const int64_t n = channels - c < 8 ? (channels - c < 0 ? 0 : channels - c) : 8;
      unsigned mask = 0;
      if (n == 8)
        mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_add_ps(_mm256_loadu_ps(x + c), _mm256_loadu_ps(shift + c)),
                                                _mm256_setzero_ps(), _CMP_GE_OQ));
      else
        for (int64_t i = 0; i < n; i++) mask |= unsigned(x[c + i] + shift[c + i] >= 0.f) << i;
      const uint16_t nibbles = uint16_t((mask & 0x0f) << 4 | (mask & 0xf0) << 8);
      __builtin_memcpy(bits, &nibbles, 2);
    }
  }
}

#define UNROLL _Pragma("GCC unroll 16")

constexpr int MOST = 7;  // words of 8 lookups, of at most 4 each, that a byte can hold

template <int P, int V>  // P pixels, V blocks of 32 outputs each
INLINE void tile(const uint8_t* const* runs, int rows, int64_t run, int64_t pixel_stride, const uint8_t* weights,
                 int64_t block_bytes, uint16_t* counts, int64_t counts_stride) {
  const uint8_t* tables = &T[0][0];
  asm("" : "+r"(tables));  // else GCC fetches the address for every pixel
  __m256i sum[P][V];
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < V; v++) sum[p][v] = _mm256_setzero_si256();
  bool first = true;
  const auto flush = [&]() __attribute__((always_inline)) {
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < V; v++) {
      __m256i* out = (__m256i*)(counts + p * counts_stride + v * 32);
      __m256i low = _mm256_unpacklo_epi8(sum[p][v], _mm256_setzero_si256());
      __m256i high = _mm256_unpackhi_epi8(sum[p][v], _mm256_setzero_si256());
      if (!first) low = _mm256_add_epi16(low, _mm256_loadu_si256(out)), high = _mm256_add_epi16(high, _mm256_loadu_si256(out + 1));
      _mm256_storeu_si256(out, low), _mm256_storeu_si256(out + 1, high);
      sum[p][v] = _mm256_setzero_si256();
    }
    first = false;
  };
  int held = 0;  // words in the sums
  for (int r = 0; r < rows; r++) {
    const uint8_t* bits = runs[r];
    for (int64_t i = 0; i < run; i++, bits += WORD_BYTES) {
      uint64_t word[P];
      UNROLL for (int p = 0; p < P; p++) __builtin_memcpy(&word[p], bits + p * pixel_stride, WORD_BYTES);
      UNROLL for (int nibble = 0; nibble < 8; nibble++, weights += 32) {
        __m256i w[V];
        UNROLL for (int v = 0; v < V; v++) w[v] = _mm256_loadu_si256((const __m256i*)(weights + v * block_bytes));
        UNROLL for (int p = 0; p < P; p++) {
          const __m256i t = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)(tables + uint8_t(word[p]))));
          word[p] >>= 8;
          UNROLL for (int v = 0; v < V; v++) {
            sum[p][v] = _mm256_add_epi8(sum[p][v], _mm256_shuffle_epi8(t, w[v]));
            asm("" : "+x"(sum[p][v]));  // else GCC gives the sum a second register, and spills weights
          }
        }
      }
      if (++held == MOST) flush(), held = 0;
    }
  }
  if (held) flush();
}

#include "count.inl"

void count(const uint8_t* const* runs, int rows, int64_t run, int64_t pixel_stride, const uint8_t* weights,
           int64_t blocks, int64_t pixels, uint16_t* counts) {
  const CountArgs args = {runs, rows, run, pixel_stride, weights, blocks, pixels, counts};
  count_blocks<4, 1>(args, count_blocks<4, 2>(args, 0));
}

INLINE vf fused(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

#include "conv.inl"
#include "winograd.inl"

void convolve(const float* const* runs, int rows, int64_t run, int64_t stride, const float* weights, int64_t blocks,
              int64_t pixels, float* out) {
  const ConvArgs<float> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<8, 1>(args, convolve_blocks<PIXELS, 2>(args, 0));
}

void convolve_bf16(const uint16_t* const* runs, int rows, int64_t run, int64_t stride, const uint16_t* weights,
                   int64_t blocks, int64_t pixels, float* out) {
  const ConvArgs<uint16_t> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<8, 1>(args, convolve_blocks<4, 2>(args, 0));
}

double peak(int64_t repeats) {
  constexpr int N = 12;
  __m256i sum[N];
  UNROLL for (int i = 0; i < N; i++) sum[i] = _mm256_set1_epi8(char(i));
  for (int64_t k = 0; k < repeats; k++) {
    const __m256i t = _mm256_set1_epi8(char(k));
    UNROLL for (int i = 0; i < N; i++) sum[i] = _mm256_add_epi8(sum[i], _mm256_shuffle_epi8(t, sum[i]));
  }
  UNROLL for (int i = 0; i < N; i++) asm volatile("" ::"x"(sum[i]));  // keeps the loop
  return double(repeats) * N * 128;
}

}  // namespace

const Kernels avx2_kernels = {WORD_BYTES, BLOCK, LANES, PIXELS, store_weights, pack_row, count, finish,
                              activate<float>, activate<uint16_t>, convolve, convolve_bf16, winograd_input, winograd_output, add_bias, softmax, moments, peak};

}  // namespace bidiffsr

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
