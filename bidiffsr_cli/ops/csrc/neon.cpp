// NEON, the baseline of every 64-bit Arm: a 32-bit lane is one output channel; eor, cnt, add make 128 binary
// multiply-adds. Counts are kept in bytes and widened before they can overflow.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "kernels.h"

namespace bidiffsr {
namespace {

#define LANES 4
#include "rows.inl"

constexpr int BLOCK = 16, WORD_BYTES = 4, PIXELS = 6;

void store_weights(const uint32_t* words, uint8_t* out) { __builtin_memcpy(out, words, 64); }

void pack_row(const float* x, int64_t x_stride, int64_t pixels, int64_t channels, const float* shift, uint8_t* bits) {
  const uint32x4_t place = {1, 2, 4, 8};
  for (int64_t pixel = 0; pixel < pixels; pixel++, x += x_stride)
    for (int64_t c = 0; c < channels; c += 32, bits += 4) {
      uint32_t word = 0;
      int64_t i = c;
      for (; i + 4 <= channels && i < c + 32; i += 4) {
        const uint32x4_t set = vcgezq_f32(vaddq_f32(vld1q_f32(x + i), vld1q_f32(shift + i)));
        word |= vaddvq_u32(vandq_u32(set, place)) << (i - c);
      }
      for (; i < channels && i < c + 32; i++) word |= uint32_t(x[i] + shift[i] >= 0.f) << (i - c);
      __builtin_memcpy(bits, &word, 4);
    }
}

#define UNROLL _Pragma("GCC unroll 16")

constexpr int64_t FLUSH = 31;  // a byte holds at most 255, and a word adds at most 8 to it

template <int P, int V>  // P pixels × one block of 16 outputs
INLINE void tile(const uint8_t* const* runs, int rows, int64_t run, int64_t pixel_stride, const uint8_t* weights,
                 int64_t, uint16_t* counts, int64_t counts_stride) {
  static_assert(V == 1, "there are not more registers");
  uint32x4_t total[P][4];
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < 4; v++) total[p][v] = vdupq_n_u32(0);
  for (int r = 0; r < rows; r++)
    for (int64_t start = 0; start < run; start += FLUSH) {
      const int64_t end = start + FLUSH < run ? start + FLUSH : run;
      uint8x16_t sum[P][4];
      UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < 4; v++) sum[p][v] = vdupq_n_u8(0);
      for (int64_t i = start; i < end; i++, weights += 64) {
        uint8x16_t w[4];
        UNROLL for (int v = 0; v < 4; v++) w[v] = vld1q_u8(weights + 16 * v);
        UNROLL for (int p = 0; p < P; p++) {
          uint32_t word;
          __builtin_memcpy(&word, runs[r] + p * pixel_stride + 4 * i, 4);
          const uint8x16_t a = vreinterpretq_u8_u32(vdupq_n_u32(word));
          UNROLL for (int v = 0; v < 4; v++) sum[p][v] = vaddq_u8(sum[p][v], vcntq_u8(veorq_u8(a, w[v])));
        }
      }
      UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < 4; v++)
          total[p][v] = vpadalq_u16(total[p][v], vpaddlq_u8(sum[p][v]));
    }
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < 4; v++)
      vst1_u16(counts + p * counts_stride + 4 * v, vmovn_u32(total[p][v]));
}

#include "count.inl"

void count(const uint8_t* const* runs, int rows, int64_t run, int64_t pixel_stride, const uint8_t* weights,
           int64_t blocks, int64_t pixels, uint16_t* counts) {
  const CountArgs args = {runs, rows, run, pixel_stride, weights, blocks, pixels, counts};
  count_blocks<2, 1>(args, 0);
}

INLINE vf fused(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }

#include "conv.inl"
#include "winograd.inl"

void convolve(const float* const* runs, int rows, int64_t run, int64_t stride, const float* weights, int64_t blocks,
              int64_t pixels, float* out) {
  const ConvArgs<float> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<8, 1>(args, convolve_blocks<PIXELS, 4>(args, 0));
}

void convolve_bf16(const uint16_t* const* runs, int rows, int64_t run, int64_t stride, const uint16_t* weights,
                   int64_t blocks, int64_t pixels, float* out) {
  const ConvArgs<uint16_t> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<8, 1>(args, convolve_blocks<4, 4>(args, 0));
}

double peak(int64_t repeats) {
  constexpr int N = 16;
  uint8x16_t sum[N];
  UNROLL for (int i = 0; i < N; i++) sum[i] = vdupq_n_u8(uint8_t(i));
  for (int64_t k = 0; k < repeats; k++) {
    const uint8x16_t a = vdupq_n_u8(uint8_t(k));
    UNROLL for (int i = 0; i < N; i++) sum[i] = vaddq_u8(sum[i], vcntq_u8(veorq_u8(a, sum[i])));
  }
  UNROLL for (int i = 0; i < N; i++) asm volatile("" ::"w"(sum[i]));  // keeps the loop
  return double(repeats) * N * 128;
}

}  // namespace

const Kernels neon_kernels = {WORD_BYTES, BLOCK, LANES, PIXELS, store_weights, pack_row, count, finish,
                              activate<float>, activate<uint16_t>, convolve, convolve_bf16, winograd_input, winograd_output, add_bias, softmax, moments, peak};

}  // namespace bidiffsr
#endif
