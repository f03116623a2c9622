// What every instruction set provides: the innermost loops, behind one table of functions. One file per instruction set
// fills the table; `dispatch.cpp` hands them out.
#pragma once

#include <stdint.h>

#include "operations.h"

namespace bidiffsr {

// A packed pixel is a run of words, each the signs of 32 channels; channels that do not exist are zero bits, and so are
// pixels outside of the picture. A word takes `word_bytes` bytes. Weights are stored in blocks of `block` outputs:
// [outputs / block][kernel²][words][block] of one word each, missing outputs zero.
//
// A convolution is computed in three steps, each with its own loop, on a few rows that stay in the cache:
//   pack_row:  signs of (x + shift) -> bits
//   count:     bits, weights -> number of signs that differ
//   finish:    alpha (taps - 2 count), RPReLU, shortcuts, sums for the next GroupNorm
struct FinishArgs {
  const uint16_t* counts;  // pixels × counts_stride
  int64_t counts_stride;
  int64_t pixels, channels;
  const int32_t* bias;  // channels: the number of taps inside the picture, and a correction for those outside
  const float *alpha, *shift, *slope, *offset;  // channels
  const float* identity;                        // pixels × identity_stride, or null
  int64_t identity_stride;
  bool identity_first;  // added to the sums, not to what the RPReLU made of them
  const float* addend;  // channels, or null
  const float* added;   // pixels × added_stride, or null; may be `out`
  int64_t added_stride;
  float* out;  // pixels × out_stride
  int64_t out_stride;
  float *sum, *square;  // channels, added to; or both null
};

enum Activation { LINEAR, SILU, RELU };

struct Kernels {
  int word_bytes, block;
  int lanes;   // float32 values of a vector
  int pixels;  // that `convolve` computes together: multiples of it cost it least

  // One word of weights of each of `block` outputs: bit i of words[o] is the sign of channel i.
  void (*store_weights)(const uint32_t* words, uint8_t* out);

  // pixels × channels (x_stride floats apart) -> packed pixels, word_bytes · ceil(channels / 32) bytes each.
  void (*pack_row)(const float* x, int64_t x_stride, int64_t pixels, int64_t channels, const float* shift, uint8_t* bits);

  // For each of `pixels`, pixel_stride bytes apart, and each of blocks·block outputs, the number of differing signs: a pixel's
  // taps lie in `rows` runs of `run` words, runs[r] + pixel · pixel_stride. counts is pixels × (blocks · block);
  // more than 65535 there are not, as `prepare` sees to.
  void (*count)(const uint8_t* const* runs, int rows, int64_t run, int64_t pixel_stride, const uint8_t* weights,
                int64_t blocks, int64_t pixels, uint16_t* counts);

  void (*finish)(const FinishArgs& args);

  // scale x + shift, activated, of pixels × channels without gaps to pixels `stride` values apart; scale and shift
  // null: x.
  void (*activate)(const float* x, int64_t pixels, int64_t channels, const float* scale, const float* shift,
                   Activation activation, float* out, int64_t stride);
  void (*activate_bf16)(const float* x, int64_t pixels, int64_t channels, const float* scale, const float* shift,
                        Activation activation, uint16_t* out, int64_t stride);

  // A full-precision convolution of one tap: sums over a pixel's values, which lie in one or two (`rows`) runs of `run`,
  // runs[r] + pixel · stride, for blocks · lanes outputs. Weights are [blocks][rows · run][lanes]; out is pixels ×
  // (blocks · lanes).
  void (*convolve)(const float* const* runs, int rows, int64_t run, int64_t stride, const float* weights, int64_t blocks,
                   int64_t pixels, float* out);
  // Likewise of bfloat16 values, added in float32: run and stride are even, weights [blocks][rows · run / 2][lanes][2].
  void (*convolve_bf16)(const uint16_t* const* runs, int rows, int64_t run, int64_t stride, const uint16_t* weights,
                        int64_t blocks, int64_t pixels, float* out);

  // Winograd's transforms (`winograd.cpp`). Of tiles side by side, whose 6 × 6 input pixels lie in six rows, a tile every
  // four pixels, to 36 places `stride` values apart, tiles × channels each; and of such products to 4 rows of 4 · tiles
  // pixels, channels being whole vectors.
  void (*winograd_input)(const float* const* rows, int64_t channels, int64_t tiles, float* out, int64_t stride);
  void (*winograd_output)(const float* products, int64_t stride, int64_t channels, int64_t tiles, float* out);

  // out = y + bias [+ residual], and sums, of pixels × channels without gaps, but for y, whose pixels are y_stride apart.
  void (*add_bias)(const float* y, int64_t y_stride, int64_t pixels, int64_t channels, const float* bias,
                   const float* residual, float* out, float* sum, float* square);

  // exp(x - max) over their sum, of `count` values, in place.
  void (*softmax)(float* x, int64_t count);

  void (*moments)(const float* x, int64_t pixels, int64_t channels, float* sum, float* square);

  // `repeats` times some binary multiply-adds on registers alone; returns how many there were in all.
  double (*peak)(int64_t repeats);
};

extern const Kernels portable_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels, avx512_kernels;
void convolve_by_avx512bf16(const uint16_t* const* runs, int rows, int64_t run, int64_t stride, const uint16_t* weights,
                            int64_t blocks, int64_t pixels, float* out);  // avx512_kernels.convolve_bf16, quicker
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

// The table of an instruction set that can run here, else null.
const Kernels* kernels(int32_t isa);

// Whether the processor has AVX512_BF16 beside what avx512_kernels need.
bool multiplies_bfloat16();

// The bfloat16 that is nearest to a value, to even where two are.
inline uint16_t to_bfloat16(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline int64_t words_of(int64_t channels) { return (channels + 31) / 32; }
inline int64_t vectors_of(const Kernels& k, int64_t outputs) { return (outputs + k.lanes - 1) / k.lanes; }
inline int64_t blocks_of(const Kernels& k, int64_t outputs) { return (outputs + k.block - 1) / k.block; }

}  // namespace bidiffsr
