// The C interface of the native 1-bit engine: a network is a list of operations, and this runs it. What each operation
// computes is defined in `ops/reference.py`.
//
//   bidiffsr_network* network;
//   if (bidiffsr_network_new(&description, &network) != BIDIFFSR_OK) ...
//   bidiffsr_run run = {threads, batch, height, width, {condition, x_t}, t, step, output, NULL};
//   bidiffsr_network_run(network, &run);
//   bidiffsr_network_delete(network);
//
// Everything is float32. Feature maps are channels last, B×H×W×C without gaps; pictures are planes, B×C×H×W. No pointer
// may be null where that is not said. Functions that return a `bidiffsr_status` write nothing of value when it is not
// BIDIFFSR_OK. Nothing keeps a pointer after it returns. Every function may be called from several threads at once, the
// same network included; only its deletion must wait for the last of its runs.
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

#define BIDIFFSR_ABI 13  // raised with every change in here

typedef enum {
  BIDIFFSR_OK = 0,
  BIDIFFSR_OUT_OF_MEMORY = 1,
  BIDIFFSR_UNSUPPORTED = 2,  // an instruction set that cannot run here
  BIDIFFSR_MISFIT = 3,       // operations or sizes that do not fit each other
  BIDIFFSR_NOT_FINITE = 4    // the network predicts something that is no number; 5 and above are the caller's own
} bidiffsr_status;
typedef enum {
  BIDIFFSR_PORTABLE = 0,
  BIDIFFSR_AVX2 = 1,
  BIDIFFSR_AVX512 = 2,
  BIDIFFSR_NEON = 3,
  BIDIFFSR_ISAS = 4
} bidiffsr_isa;
typedef enum { BIDIFFSR_NONE = 0, BIDIFFSR_AFTER = 1, BIDIFFSR_BEFORE = 2 } bidiffsr_identity;
typedef enum { BIDIFFSR_PLAIN = 0, BIDIFFSR_SHUFFLE = 1, BIDIFFSR_UNSHUFFLE = 2, BIDIFFSR_STRIDED = 3 } bidiffsr_arrangement;
typedef enum {
  BIDIFFSR_BINARY = 0,
  BIDIFFSR_FULL = 1,
  BIDIFFSR_ATTENTION = 2,
  BIDIFFSR_ADD = 3,
  BIDIFFSR_JOIN = 4
} bidiffsr_kind;

enum { BIDIFFSR_INPUTS = 2 };  // the most that a network has

// Channels first, first + step, ..., `count` of them, of one of an operation's sources (0 or 1).
typedef struct {
  int32_t source, first, step, count;
} bidiffsr_segment;

// One binary convolution: TaA(alpha (Sign(u + tar) * Sign(w)) [+ u]) [+ u], where u are the segments' channels one behind
// the other. Of the groups that time is cut into, a run takes the one that its step lies in.
typedef struct {
  const uint8_t* signs;  // rows of bits as in `ops/packing.py`, one for each output
  const float* alpha;    // outputs: the scales
  const float* tar;      // tar_groups × inputs: TaR's bias
  const float *shift, *slope, *offset;  // taa_groups × outputs each: TaA's RPReLU
  int32_t tar_groups, taa_groups;
  int32_t inputs, outputs, kernel;  // kernel is 1 or 3
  int32_t identity;                 // where u is added: none, after or before TaA; then inputs == outputs
  int32_t segment_count;            // 1 or 2
  bidiffsr_segment segments[2];
} bidiffsr_binary_conv;

// An operation makes one feature map of others: maps 0.. are the network's inputs, behind them follow the operations'
// results in order. Its kind says which fields count; the others are not looked at.
typedef struct {
  int32_t kind;
  int32_t source[2];  // maps; the second may be -1 (of ADD not)
  int32_t residual;   // BINARY (plain), FULL (neither shuffled nor unshuffled): a map that is added, or -1

  // u = SiLU(GroupNorm(x)) of the first source, of ATTENTION GroupNorm(x); with 0 groups u = x. Behind a norm, there is
  // one source, and a binary convolution sees all of it.
  int32_t norm_groups;
  double norm_eps;
  const float *norm_weight, *norm_bias;

  // BINARY (plain), FULL: time_weight (outputs × embedding) embedding + time_bias is added to every pixel; or both null.
  const float *time_weight, *time_bias;

  // BINARY: one or two binary convolutions, side by side in the channels (concatenate) or added; then (un)shuffled by 2. Or
  // strided, with a stride of 2 that begins at the first pixel: the sources have even sides, and there is no identity.
  int32_t conv_count, concatenate, arrangement;
  bidiffsr_binary_conv convs[2];

  // FULL: a full-precision convolution of the sources' channels side by side, weight outputs × kernel × kernel × inputs,
  // multiplied in float32, or bfloat16 where kernel is 1, and added in float32.
  // ATTENTION: x + second (softmax(q kᵀ / √channels) v) + bias over all pixels, where (q, k, v) = weight u; weight is
  // 3 channels × channels, second channels × channels.
  int32_t kernel, outputs, bfloat16;
  const float *weight, *second, *bias;
  int32_t relu;       // FULL: u = max(x, 0), of maps and not behind a norm
  int32_t unshuffle;  // FULL: 0, or by what its sources, which then are planes, are pixel-unshuffled
  int32_t shuffle;    // FULL: 0, or by what its result is pixel-shuffled, which then are planes
  int32_t repeat;     // JOIN, the channels of maps side by side: how often each pixel is repeated in both directions, from 1
} bidiffsr_operation;

// Linear(Swish(Linear(sinusoids of t))), behind which may be another Swish: what operations with a time see of t.
typedef struct {
  int32_t channels;              // 0: there is none
  const float *weight1, *bias1;  // 4 channels × channels
  const float *weight2, *bias2;  // channels × 4 channels
  int32_t swish;
} bidiffsr_embedding;

typedef struct {
  int32_t isa;
  int32_t total_steps;  // T: t and step are in 0..T-1
  int32_t input_count;  // 1 to BIDIFFSR_INPUTS
  int32_t input_channels[BIDIFFSR_INPUTS];
  int32_t input_planes;  // whether inputs are planes, or maps
  bidiffsr_embedding embedding;
  int32_t operation_count;
  const bidiffsr_operation* operations;  // the last one's result is the network's
} bidiffsr_description;

typedef struct {
  int32_t threads;               // that may work on it; the result is the same
  int32_t batch, height, width;  // of the inputs
  const float* inputs[BIDIFFSR_INPUTS];
  const int32_t* t;  // batch
  int32_t step;      // chooses the groups of TaR and TaA: a t of this network's batch
  float* output;     // planes where the last operation shuffles, else a map
  double* seconds;   // operation_count: how long each took; or null
} bidiffsr_run;

typedef struct bidiffsr_network bidiffsr_network;

BIDIFFSR_API int32_t bidiffsr_abi(void);

// Whether this library has the instruction set, and this processor and operating system can run it.
BIDIFFSR_API int32_t bidiffsr_supported(int32_t isa);

// Whether the processor multiplies bfloat16 itself (AVX512_BF16; not asked on other than x86).
BIDIFFSR_API int32_t bidiffsr_multiplies_bfloat16(void);

// A network of its own, which holds copies of all weights in the layout of the instruction set: still one bit for each
// binary one (two for AVX2).
BIDIFFSR_API int32_t bidiffsr_network_new(const bidiffsr_description* description, bidiffsr_network** network);
BIDIFFSR_API void bidiffsr_network_delete(bidiffsr_network* network);

// The bytes of its weights.
BIDIFFSR_API int64_t bidiffsr_network_bytes(const bidiffsr_network* network);

// The size of what a run on inputs of a size gives: channels, height, width.
BIDIFFSR_API int32_t bidiffsr_network_size(const bidiffsr_network* network, int32_t height, int32_t width, int32_t size[3]);

BIDIFFSR_API int32_t bidiffsr_network_run(const bidiffsr_network* network, const bidiffsr_run* run);

// How the diffusion of a model goes; words are those of `configs.DiffusionConfig`.
typedef struct {
  int32_t epsilon;                       // what the network predicts: epsilon, or v
  int32_t residual;                      // what is diffused: the residual, or the image
  int32_t input_gain;                    // whether the network is given alpha x_t
  int32_t up_clipped;                    // whether up(LR) is clipped to [0, 1]
  int32_t clips;                         // whether x_0 is clamped to what follows
  float clip_low, clip_high;
  float condition_low, condition_high;   // where black and white of up(LR) are mapped to
  int32_t detail;                        // whether the condition has what is sharp in up(LR)
  float residual_scale;                  // s of the scale
  float noise_by_detail, residual_by_detail;  // 0: noise, or the residual, counts the same everywhere
  float diagonal_gain;                   // of the residual r: r + diagonal_gain D_x D_y r, D = (1, -2, 1)
  int32_t first_by_mean;                 // whether x_0 is 0 for the first step, which asks no network
  int32_t upsampler_radius;              // how many pixels from the edges of what it is given its result is of no use
} bidiffsr_diffusion;

typedef struct {
  int32_t t;
  double alpha, sigma;
} bidiffsr_level;

typedef enum { BIDIFFSR_DDIM = 0, BIDIFFSR_DDPM = 1, BIDIFFSR_DPMPP_2M = 2 } bidiffsr_sampler;

// What a result is: planes of floats in [0, 1], 3×H×W; levels of 255, uint8, H×W×channels; levels of 65535, uint16, H×W,
// for grey alone. Grey is the mean of the three channels that the network draws.
typedef enum { BIDIFFSR_FLOATS = 0, BIDIFFSR_LEVELS_8 = 1, BIDIFFSR_LEVELS_16 = 2 } bidiffsr_output;

// N(0, 1) noise of a canvas, 3×height×width, that depends on the seed, the draw and the place alone.
BIDIFFSR_API int32_t bidiffsr_noise(uint64_t seed, int32_t draw, int32_t height, int32_t width, int32_t threads,
                                    float* field);

// One picture. Functions of the caller may be called from other threads; where one gives another number than 0, nothing
// more is begun, and the number is what bidiffsr_enlarge gives.
typedef struct {
  int32_t threads, concurrent;       // in all; and windows that are computed at once, which share them
  const int32_t* window_threads;     // of each window, one row of them behind the other
  const void* low_res;               // channels×height×width: uint8, levels of 255; or floats in [0, 1]
  int32_t low_res_floats, channels;  // 1 (grey) or 3
  int32_t height, width, scale;
  int32_t canvas_height, canvas_width;  // at least scale times as much
  int32_t tile_height, tile_width, overlap, row_count, column_count;
  const int32_t *tops, *lefts;       // where rows and columns of windows begin
  int32_t sampler, step_count;
  const bidiffsr_level* levels;      // step_count + 1, the last one clean
  double eta, temperature;
  uint64_t seed;
  // Computes a window in the network's place, on so many threads: x_t and condition as it sees them ->
  // 3×tile_height×tile_width; or null.
  int32_t (*predict)(void* context, int32_t threads, const float* x_t, const float* condition, int32_t t,
                     float* prediction);
  // Is called with 1 whenever a window is done, and with 0 in between, by several threads; or null.
  int32_t (*progress)(void* context, int32_t windows);
  void* context;
  int32_t match_low_frequencies;     // whether the result is given the low frequencies of the small picture
  int32_t output_kind;               // a bidiffsr_output
  void* output;                      // scale height, scale width
} bidiffsr_enlargement;

// Run the whole reverse diffusion. The network's inputs are the condition and x_t, as planes. The upsampler may be null.
// Its input is the small picture, as planes; its result is added to bicubic interpolation.
BIDIFFSR_API int32_t bidiffsr_enlarge(const bidiffsr_network* network, const bidiffsr_network* upsampler,
                                      const bidiffsr_diffusion* diffusion, const bidiffsr_enlargement* enlargement);

// Numbers of a file, `count` of them, little-endian float16 (half) or float32, as float32 in memory. Gives which is the
// first that is not finite, or -1 where all are.
BIDIFFSR_API int64_t bidiffsr_read_floats(const void* octets, int32_t half, int64_t count, float* values);

// Numbers of 8 bits, rows of `count`, each times its row's scale.
BIDIFFSR_API void bidiffsr_read_levels(const int8_t* levels, const float* scales, int64_t rows, int64_t count, float* values);

// Binary multiply-adds per second of one core on registers alone: what the kernels could reach at best. And the
// processor's clock, cycles per second. Both take some milliseconds.
BIDIFFSR_API double bidiffsr_peak_rate(int32_t isa);
BIDIFFSR_API double bidiffsr_clock_rate(void);

#ifdef __cplusplus
}
#endif
