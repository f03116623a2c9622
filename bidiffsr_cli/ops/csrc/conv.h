// Full-precision convolutions' rows: those of the input, made in a ring that stays in the cache, and what becomes of the
// sums, so that an output row leaves with everything added that belongs to it.
#pragma once

#include <stdint.h>
#include <string.h>

#include "bands.h"
#include "kernels.h"

namespace bidiffsr {

// Channels of a pixel as the kernels see them: bfloat16 is multiplied in pairs.
inline int64_t padded_inputs(int64_t inputs, bool bfloat16) { return bfloat16 ? (inputs + 1) / 2 * 2 : inputs; }

// The last `depth` rows of the input; of 3×3 taps with a pixel of zeros to the left and as many to the right as `columns`
// has. T is what is multiplied, float or the bits of a bfloat16.
template <class T>
class InputRows {
 public:
  InputRows(const Kernels& k, const FullConvCall& c, int64_t depth, int64_t columns) : k(k), c(c), depth(depth) {
    const int64_t unshuffled = c.unshuffle ? c.unshuffle * c.unshuffle : 1;
    channels = padded_inputs((c.source_channels[0] + c.source_channels[1]) * unshuffled, sizeof(T) == 2);
    row_values = columns * channels;
    ring = scratch<T>(depth * row_values);
    memset(ring.get(), 0, depth * row_values * sizeof(T));  // what lies beside the picture and the channels
  }

  // The next row that is made is y, of a picture.
  void start(int64_t picture, int64_t y) { image = picture, next = y; }

  // Makes the rows up to y.
  void fill(int64_t y) {
    while (next <= y) fill_row(next++);
  }

  const T* row(int64_t y) const { return ring.get() + (y + depth) % depth * row_values; }

  int64_t channels;

 private:
  void fill_row(int64_t y) {
    T* out = const_cast<T*>(row(y)) + c.kernel / 2 * channels;
    if (y < 0 || y >= c.height) {
      memset(out, 0, c.width * channels * sizeof(T));
      return;
    }
    for (int source = 0; source < 2; source++) {
      const int64_t count = c.source_channels[source];
      if (!count) continue;
      if (c.unshuffle) {
        unshuffle(c.source[source] + image * count * c.height * c.width * c.unshuffle * c.unshuffle, count, y, out);
        out += count * c.unshuffle * c.unshuffle;
      } else {
        const float* x = c.source[source] + (image * c.height + y) * c.width * count;
        const float* scale = c.norm_scale ? c.norm_scale + image * count : nullptr;
        const float* shift = c.norm_scale ? c.norm_shift + image * count : nullptr;
        activate(x, count, scale, shift, out);
        out += count;
      }
    }
  }

  void activate(const float* x, int64_t count, const float* scale, const float* shift, float* out) {
    k.activate(x, c.width, count, scale, shift, activation(), out, channels);
  }

  void activate(const float* x, int64_t count, const float* scale, const float* shift, uint16_t* out) {
    k.activate_bf16(x, c.width, count, scale, shift, activation(), out, channels);
  }

  Activation activation() const { return c.norm_scale ? SILU : c.relu ? RELU : LINEAR; }

  // Row y of pixel-unshuffled planes: of channel p, row y r + i, column x r + j goes to channel p r² + i r + j.
  void unshuffle(const float* planes, int64_t count, int64_t y, T* out) {
    const int64_t r = c.unshuffle;
    for (int64_t plane = 0; plane < count; plane++)
      for (int64_t i = 0; i < r; i++, out += r) {
        const float* from = planes + ((plane * c.height + y) * r + i) * c.width * r;
        T* to = out;
        for (int64_t x = 0; x < c.width; x++, to += channels)
          for (int64_t j = 0; j < r; j++) put(*from++, to + j);
      }
  }

  static void put(float value, float* to) { *to = value; }
  static void put(float value, uint16_t* to) { *to = to_bfloat16(value); }

  const Kernels& k;
  const FullConvCall& c;
  int64_t depth, row_values, image = 0, next = 0;
  std::unique_ptr<T[]> ring;  // depth × columns × channels
};

// Adds to the sums what belongs to them, and puts them where they go.
class OutputRows {
 public:
  OutputRows(const Kernels& k, const FullConvCall& c) : k(k), c(c) {
    channels = vectors_of(k, c.outputs) * k.lanes;
    bias = scratch<float>(c.outputs);
  }

  void start(int64_t picture) {
    image = picture;
    for (int64_t o = 0; o < c.outputs; o++) bias[o] = c.bias[o] + (c.addend ? c.addend[image * c.outputs + o] : 0);
  }

  // Sums of pixels x.. of row y, pixels × channels; a row's pixels come in order.
  void put(int64_t y, int64_t x, int64_t pixels, const float* sums) {
    if (c.shuffle) return shuffle(y, x, pixels, sums);
    const int64_t row = image * c.height + y, first = (row * c.width + x) * c.outputs;
    float* sum = c.moments ? c.moments + row * 2 * c.outputs : nullptr;
    if (sum && x == 0) memset(sum, 0, 2 * c.outputs * sizeof(float));
    k.add_bias(sums, channels, pixels, c.outputs, bias.get(), c.residual ? c.residual + first : nullptr,
               c.output + first, sum, sum ? sum + c.outputs : nullptr);
  }

  int64_t channels;  // of the sums: whole vectors

 private:
  // The way back from `unshuffle`.
  void shuffle(int64_t y, int64_t x, int64_t pixels, const float* sums) {
    const int64_t r = c.shuffle, planes = c.outputs / (r * r);
    for (int64_t plane = 0, channel = 0; plane < planes; plane++)
      for (int64_t i = 0; i < r; i++, channel += r) {
        float* to = c.output + ((((image * planes + plane) * c.height + y) * r + i) * c.width + x) * r;
        for (int64_t pixel = 0; pixel < pixels; pixel++)
          for (int64_t j = channel; j < channel + r; j++) *to++ = sums[pixel * channels + j] + bias[j];
      }
  }

  const Kernels& k;
  const FullConvCall& c;
  int64_t image = 0;
  std::unique_ptr<float[]> bias;  // outputs, with the addend
};

// Weights for Winograd's algorithm, as `winograd.cpp` reads them: bytes, and outputs × 3 × 3 × inputs brought into that
// layout.
int64_t winograd_bytes(const Kernels& k, int64_t outputs, int64_t inputs);
void prepare_winograd(const Kernels& k, const float* weights, int64_t outputs, int64_t inputs, float* prepared);

bidiffsr_status run_winograd(const Kernels& k, const FullConvCall& conv);

}  // namespace bidiffsr
