// Plain C++ for every processor: the reading from which the others depart. A 32-bit lane is one output channel; the
// compiler makes what vectors it can of the loops over 16 of them.
#include "kernels.h"

namespace bidiffsr {
namespace {

#define LANES 4
#include "rows.inl"

void store_weights(const uint32_t* words, uint8_t* out) { __builtin_memcpy(out, words, 64); }

void pack_row(const float* x, int64_t x_stride, int64_t pixels, int64_t channels, const float* shift, uint8_t* bits) {
  for (int64_t pixel = 0; pixel < pixels; pixel++, x += x_stride)
    for (int64_t c = 0; c < channels; c += 32, bits += 4) {
      uint32_t word = 0;
      for (int64_t i = c; i < channels && i < c + 32; i++) word |= uint32_t(x[i] + shift[i] >= 0.f) << (i - c);
      __builtin_memcpy(bits, &word, 4);
    }
}

void count(const uint8_t* const* runs, int rows, int64_t run, int64_t pixel_stride, const uint8_t* weights,
           int64_t blocks, int64_t pixels, uint16_t* counts) {
  for (int64_t pixel = 0; pixel < pixels; pixel++) {
    const uint8_t* w = weights;
    for (int64_t block = 0; block < blocks; block++, counts += 16) {
      uint32_t sum[16] = {};
      for (int r = 0; r < rows; r++)
        for (int64_t i = 0; i < run; i++, w += 64) {
          uint32_t bits, words[16];
          __builtin_memcpy(&bits, runs[r] + pixel * pixel_stride + 4 * i, 4);
          __builtin_memcpy(words, w, 64);
          for (int o = 0; o < 16; o++) {  // Hacker's Delight, figure 5-2
            uint32_t v = bits ^ words[o];
            v -= v >> 1 & 0x55555555;
            v = (v & 0x33333333) + (v >> 2 & 0x33333333);
            v = (v + (v >> 4)) & 0x0f0f0f0f;
            v += v >> 8;
            sum[o] += (v + (v >> 16)) & 0x3f;
          }
        }
      for (int o = 0; o < 16; o++) counts[o] = uint16_t(sum[o]);
    }
  }
}

#define UNROLL _Pragma("GCC unroll 16")

INLINE vf fused(vf a, vf b, vf c) { return a * b + c; }  // not fused: a processor without it would take a hundred times as long

#include "conv.inl"
#include "winograd.inl"

constexpr int PIXELS = 4;

void convolve(const float* const* runs, int rows, int64_t run, int64_t stride, const float* weights, int64_t blocks,
              int64_t pixels, float* out) {
  const ConvArgs<float> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<PIXELS, 1>(args, convolve_blocks<PIXELS, 2>(args, 0));
}

void convolve_bf16(const uint16_t* const* runs, int rows, int64_t run, int64_t stride, const uint16_t* weights,
                   int64_t blocks, int64_t pixels, float* out) {
  const ConvArgs<uint16_t> args = {runs, rows, run, stride, weights, blocks, pixels, out};
  convolve_blocks<4, 1>(args, convolve_blocks<4, 2>(args, 0));
}

double peak(int64_t) { return 0; }  // plain C++ has no port limit

}  // namespace

const Kernels portable_kernels = {
    4, 16, LANES, PIXELS, store_weights, pack_row, count, finish,
    activate<float>, activate<uint16_t>, convolve, convolve_bf16, winograd_input, winograd_output, add_bias, softmax, moments, peak};

}  // namespace bidiffsr
