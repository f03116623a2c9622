// What a network's operations come to, with the parameters of one run: inside of the library only. Conventions are those
// of `bidiffsr_ops.h`.
#pragma once

#include "bidiffsr_ops.h"

namespace bidiffsr {

// One binary convolution: TaA(alpha (Sign(u + tar) * Sign(w)) [+ u]) [+ u], where u are the segments' channels one behind
// the other.
struct ConvCall {
  const void* weights;        // from prepare for this isa, outputs, inputs and kernel
  const float* alpha;         // outputs: the scales
  const float* tar;           // inputs: TaR's bias, free of -0.0
  const float *taa_shift, *taa_slope, *taa_offset;  // outputs: TaA's RPReLU
  int32_t inputs, outputs, kernel;                  // kernel is 1 or 3
  int32_t identity;  // where u is added, none, after or before TaA; then inputs == outputs
  int32_t segment_count;                            // 1 or 2
  bidiffsr_segment segments[2];
};

// A block's binary convolutions with all that surrounds them.
struct BlockCall {
  int32_t isa, threads;
  int32_t batch, height, width;  // of the sources
  int32_t source_channels[2];
  const float* source[2];        // the second may be null
  // batch × source_channels[0]: u = SiLU(scale x + shift), and each convolution sees all of source 0; or null
  const float *norm_scale, *norm_shift;
  int32_t conv_count;                    // 1 or 2
  int32_t concatenate;                   // two convolutions: side by side in the channels (1), or added (0)
  int32_t arrangement;                   // pixel-(un)shuffle by 2 of the result, or a stride of 2
  const float* addend;                   // batch × channels, added to every pixel, or null; PLAIN only
  const float* residual;                 // like the output, added to it, or null; PLAIN only
  float* output;                         // not one of the inputs
  float* moments;                        // batch × output height × 2 × channels: each row's sums of y and y²; or null
  ConvCall convs[2];
};

// A full-precision convolution with all that surrounds it: conv(u) + bias [+ addend] [+ residual], where u is SiLU(scale x
// + shift), or max(x, 0), or x. Channels of the second source follow those of the first.
struct FullConvCall {
  int32_t isa, threads;
  int32_t bfloat16;              // whether u and the weights are rounded to bfloat16, of a kernel of 1; sums are float32
  int32_t batch, height, width;  // of the convolution
  int32_t kernel, outputs;       // kernel is 1 or 3
  // 0: sources are feature maps. r > 0: planes, batch×channels×(height r)×(width r), which are pixel-unshuffled by r.
  int32_t unshuffle;
  int32_t source_channels[2];    // the second may be 0
  const float* source[2];
  const float *norm_scale, *norm_shift;  // batch × source_channels[0], of the only source, a map; or null
  int32_t relu;                  // of maps, where there is no norm
  const void* weights;           // from prepare_full, for this isa, bfloat16, outputs, inputs and kernel
  const float* bias;             // outputs
  const float* addend;           // batch × outputs, or null
  const float* residual;         // like the output, or null; not where that is shuffled
  int32_t shuffle;               // 0: the output is a map. r > 0: batch×(outputs / r²)×(height r)×(width r), pixel-shuffled
  float* output;                 // not one of the inputs
  float* moments;                // batch × height × 2 × outputs: each row's sums of y and y²; or null, as where it is shuffled
};

// Self-attention over all pixels, with one head: x + out(softmax(q kᵀ / √channels) v) + bias, where q, k and v are 1×1
// convolutions of scale x + shift. In float32.
struct AttentionCall {
  int32_t isa, threads;
  int32_t batch, height, width, channels;
  const float* x;                        // a map
  const float *norm_scale, *norm_shift;  // batch × channels
  const void *qkv, *out;                 // from prepare_full: channels -> 3 channels, and -> channels
  const float* bias;                     // channels
  float *output, *moments;               // like x, and not x; batch × height × 2 × channels, or null
};

// Bytes of a convolution's weights in the layout of an instruction set; 0 where the library does not have it.
int64_t prepared_bytes(int32_t isa, int32_t outputs, int32_t inputs, int32_t kernel);

// Bring packed sign bits (rows as in `ops/packing.py`, `row_bytes` apart) into that layout; still one bit per weight,
// but two for AVX2.
int32_t prepare(int32_t isa, const uint8_t* signs, int64_t row_bytes, int32_t outputs, int32_t inputs, int32_t kernel,
                void* prepared);

int32_t run_block(const BlockCall* block);

// Likewise of a full-precision convolution's weights, outputs × kernel × kernel × inputs.
int64_t prepared_full_bytes(int32_t isa, int32_t bfloat16, int32_t outputs, int32_t inputs, int32_t kernel);
int32_t prepare_full(int32_t isa, int32_t bfloat16, const float* weights, int32_t outputs, int32_t inputs, int32_t kernel,
                     void* prepared);

int32_t run_full_conv(const FullConvCall* conv);
int32_t run_attention(const AttentionCall* attention);

// Each row's sums of x and x² per channel: x is rows×width×channels, moments rows×2×channels.
int32_t row_moments(int32_t isa, int32_t threads, const float* x, int64_t rows, int64_t width, int64_t channels,
                    float* moments);

// GroupNorm as a scale and a shift per channel, from the moments of one picture's rows (in double precision).
void norm_coefficients(const float* moments, int64_t rows, int64_t width, int64_t channels, int64_t groups, double eps,
                       const float* gamma, const float* beta, float* scale, float* shift);

}  // namespace bidiffsr

// Whether the network's inputs are planes of so many channels; it has one where the second is 0.
bool bidiffsr_network_takes(const bidiffsr_network* network, int32_t first, int32_t second);
