// The C interface of the native 1-bit engine: what `ops/native.py` calls. What each operation computes is defined in
// `ops/reference.py`.
//
// Feature maps are float32, channels last: B×H×W×C without gaps. No pointer may be null where that is not said. Functions
// that return a `bidiffsr_status` write nothing of value when it is not BIDIFFSR_OK. Nothing keeps a pointer after it
// returns, and every function may be called from several threads at once.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define BIDIFFSR_API __declspec(dllexport)
#else
#define BIDIFFSR_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define BIDIFFSR_ABI 2  // raised with every change in here

typedef enum { BIDIFFSR_OK = 0, BIDIFFSR_OUT_OF_MEMORY = 1, BIDIFFSR_UNSUPPORTED = 2 } bidiffsr_status;
typedef enum {
  BIDIFFSR_PORTABLE = 0,
  BIDIFFSR_AVX2 = 1,
  BIDIFFSR_AVX512 = 2,
  BIDIFFSR_NEON = 3,
  BIDIFFSR_ISAS = 4
} bidiffsr_isa;
typedef enum { BIDIFFSR_NONE = 0, BIDIFFSR_AFTER = 1, BIDIFFSR_BEFORE = 2 } bidiffsr_identity;
typedef enum { BIDIFFSR_PLAIN = 0, BIDIFFSR_SHUFFLE = 1, BIDIFFSR_UNSHUFFLE = 2 } bidiffsr_arrangement;

// Channels first, first + step, ..., `count` of them, of one of the sources.
typedef struct {
  int32_t source, first, step, count;
} bidiffsr_segment;

// One binary convolution: TaA(alpha (Sign(u + tar) * Sign(w)) [+ u]) [+ u], where u are the segments' channels one behind
// the other.
typedef struct {
  const void* weights;        // from bidiffsr_prepare for this isa, outputs, inputs and kernel
  const float* alpha;         // outputs: the scales
  const float* tar;           // inputs: TaR's bias, free of -0.0
  const float *taa_shift, *taa_slope, *taa_offset;  // outputs: TaA's RPReLU
  int32_t inputs, outputs, kernel;                  // kernel is 1 or 3
  int32_t identity;  // where u is added, none, after or before TaA; then inputs == outputs
  int32_t segment_count;                            // 1 or 2
  bidiffsr_segment segments[2];
} bidiffsr_conv;

// A block's binary convolutions with all that surrounds them.
typedef struct {
  int32_t isa, threads;
  int32_t batch, height, width;  // of the sources
  int32_t source_channels[2];
  const float* source[2];        // the second may be null
  // batch × source_channels[0]: u = SiLU(scale x + shift), and each convolution sees all of source 0; or null
  const float *norm_scale, *norm_shift;
  int32_t conv_count;                    // 1 or 2
  int32_t concatenate;                   // two convolutions: side by side in the channels (1), or added (0)
  int32_t arrangement;                   // pixel-(un)shuffle by 2 of the result
  const float* addend;                   // batch × channels, added to every pixel, or null; PLAIN only
  const float* residual;                 // like the output, added to it, or null; PLAIN only
  float* output;                         // not one of the inputs
  float* moments;                        // batch × output height × 2 × channels: each row's sums of y and y²; or null
  bidiffsr_conv convs[2];
} bidiffsr_block;

BIDIFFSR_API int32_t bidiffsr_abi(void);

// Whether this library has the instruction set, and this processor and operating system can run it.
BIDIFFSR_API int32_t bidiffsr_supported(int32_t isa);

// Whether the processor multiplies bfloat16 itself (AVX512_BF16; not asked on other than x86).
BIDIFFSR_API int32_t bidiffsr_multiplies_bfloat16(void);

// Bytes of a convolution's weights in the layout of an instruction set; 0 where the library does not have it.
BIDIFFSR_API int64_t bidiffsr_prepared_bytes(int32_t isa, int32_t outputs, int32_t inputs, int32_t kernel);

// Bring packed sign bits (rows as in `ops/packing.py`, `row_bytes` apart) into that layout; still one bit per weight,
// but two for AVX2.
BIDIFFSR_API int32_t bidiffsr_prepare(int32_t isa, const uint8_t* signs, int64_t row_bytes, int32_t outputs,
                                      int32_t inputs, int32_t kernel, void* prepared);

BIDIFFSR_API int32_t bidiffsr_run_block(const bidiffsr_block* block);

// Each row's sums of x and x² per channel: x is rows×width×channels, moments rows×2×channels.
BIDIFFSR_API int32_t bidiffsr_moments(int32_t isa, int32_t threads, const float* x, int64_t rows, int64_t width,
                                      int64_t channels, float* moments);

// GroupNorm as a scale and a shift per channel, from the moments of one picture's rows (in double precision).
BIDIFFSR_API void bidiffsr_norm_coefficients(const float* moments, int64_t rows, int64_t width, int64_t channels,
                                             int64_t groups, double eps, const float* gamma, const float* beta,
                                             float* scale, float* shift);

// Rows first..last-1 of one picture (height×width×channels), as float32 or, rounded to nearest even, bfloat16; rows
// outside of the picture are zeros. With scale and shift (channels each, or both null): SiLU(scale x + shift). Pixels of
// `out` are out_channels >= channels values apart.
BIDIFFSR_API int32_t bidiffsr_activate_rows(int32_t isa, const float* x, int64_t height, int64_t width, int64_t channels,
                                            const float* scale, const float* shift, int64_t first, int64_t last,
                                            void* out, int64_t out_channels, int32_t bfloat16);

// Pixel-unshuffled rows first..last-1 of a picture of planes, channels×(height r)×(width r): channel c, row y r + i,
// column x r + j go to row y, column x, channel c r² + i r + j of `out`, whose pixels are out_channels values apart. Rows
// outside of the picture are zeros.
BIDIFFSR_API void bidiffsr_unshuffle_rows(const float* planes, int64_t channels, int64_t height, int64_t width, int64_t r,
                                          int64_t first, int64_t last, float* out, int64_t out_channels);

// The way back: y + bias, `rows` rows of width×(channels r²), y float32 or bfloat16, to rows first r.. of planes,
// channels×(height r)×(width r).
BIDIFFSR_API void bidiffsr_shuffle_rows(const void* y, int32_t bfloat16, const float* bias, int64_t rows, int64_t width,
                                        int64_t channels, int64_t r, int64_t first, int64_t height, float* planes);

// out = y + bias [+ residual], rows×width×channels, where y is float32 or bfloat16; and each row's moments, or null.
BIDIFFSR_API int32_t bidiffsr_finish_rows(int32_t isa, const void* y, int32_t bfloat16, int64_t rows, int64_t width,
                                          int64_t channels, const float* bias, const float* residual, float* out,
                                          float* moments);

// Binary multiply-adds per second of one core on registers alone: what the kernels could reach at best. And the
// processor's clock, cycles per second. Both take some milliseconds.
BIDIFFSR_API double bidiffsr_peak_rate(int32_t isa);
BIDIFFSR_API double bidiffsr_clock_rate(void);

#ifdef __cplusplus
}
#endif
