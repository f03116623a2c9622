// A full-precision convolution with all that surrounds it, row by row: rows of its input are made in a ring that stays in
// the cache, and the output row leaves with everything added that belongs to it.
#include <stdint.h>
#include <string.h>

#include "bands.h"
#include "kernels.h"

namespace bidiffsr {
namespace {

constexpr int64_t STRIP_SUMS = 8192;  // sums that are finished together: 32 KB, about a first-level cache

// Channels of a pixel as the kernels see them: bfloat16 is multiplied in pairs.
int64_t padded_inputs(int64_t inputs, bool bfloat16) { return bfloat16 ? (inputs + 1) / 2 * 2 : inputs; }

int64_t inputs_of(const FullConvCall& c) {
  return (c.source_channels[0] + c.source_channels[1]) * (c.unshuffle ? c.unshuffle * c.unshuffle : 1);
}

// A band of output rows, on one thread; T is what is multiplied, float or the bits of a bfloat16.
template <class T>
class ConvBand {
 public:
  ConvBand(const Kernels& k, const FullConvCall& c) : k(k), c(c) {
    pad = c.kernel / 2;
    inputs = padded_inputs(inputs_of(c), sizeof(T) == 2);
    row_values = (c.width + 2 * pad) * inputs;
    ring = scratch<T>(c.kernel * row_values);
    memset(ring.get(), 0, c.kernel * row_values * sizeof(T));  // what lies beside the picture and the channels
    vectors = vectors_of(k, c.outputs), padded = vectors * k.lanes;
    strip = STRIP_SUMS / padded < 16 ? 16 : STRIP_SUMS / padded;
    sums = scratch<float>(strip * padded);
    bias = scratch<float>(c.outputs);
  }

  void run(int64_t image, int64_t begin, int64_t end) {
    for (int64_t o = 0; o < c.outputs; o++) bias[o] = c.bias[o] + (c.addend ? c.addend[image * c.outputs + o] : 0);
    int64_t next = begin - pad;
    for (int64_t y = begin; y < end; y++) {
      while (next <= y + pad) fill(image, next++);
      row(image, y);
    }
  }

 private:
  T* ring_row(int64_t y) { return ring.get() + (y + c.kernel) % c.kernel * row_values; }

  void fill(int64_t image, int64_t y) {
    T* out = ring_row(y) + pad * inputs;
    if (y < 0 || y >= c.height) {
      memset(out, 0, c.width * inputs * sizeof(T));
      return;
    }
    for (int source = 0; source < 2; source++) {
      const int64_t channels = c.source_channels[source];
      if (!channels) continue;
      if (c.unshuffle) {
        unshuffle(c.source[source] + image * channels * c.height * c.width * c.unshuffle * c.unshuffle, channels, y, out);
        out += channels * c.unshuffle * c.unshuffle;
      } else {
        const float* x = c.source[source] + (image * c.height + y) * c.width * channels;
        activate(x, channels, c.norm_scale ? image * channels : -1, out);
        out += channels;
      }
    }
  }

  void activate(const float* x, int64_t channels, int64_t norm, float* out) {
    k.activate(x, c.width, channels, norm < 0 ? nullptr : c.norm_scale + norm, norm < 0 ? nullptr : c.norm_shift + norm,
               norm >= 0, out, inputs);
  }

  void activate(const float* x, int64_t channels, int64_t norm, uint16_t* out) {
    k.activate_bf16(x, c.width, channels, norm < 0 ? nullptr : c.norm_scale + norm,
                    norm < 0 ? nullptr : c.norm_shift + norm, norm >= 0, out, inputs);
  }

  // Row y of pixel-unshuffled planes: of channel p, row y r + i, column x r + j goes to channel p r² + i r + j.
  void unshuffle(const float* planes, int64_t channels, int64_t y, T* out) {
    const int64_t r = c.unshuffle;
    for (int64_t plane = 0; plane < channels; plane++)
      for (int64_t i = 0; i < r; i++, out += r) {
        const float* from = planes + ((plane * c.height + y) * r + i) * c.width * r;
        T* to = out;
        for (int64_t x = 0; x < c.width; x++, to += inputs)
          for (int64_t j = 0; j < r; j++) put(*from++, to + j);
      }
  }

  static void put(float value, float* to) { *to = value; }
  static void put(float value, uint16_t* to) { *to = to_bfloat16(value); }

  void row(int64_t image, int64_t y) {
    const int64_t at = image * c.height + y;
    float* sum = c.moments ? c.moments + at * 2 * c.outputs : nullptr;
    if (sum) memset(sum, 0, 2 * c.outputs * sizeof(float));
    for (int64_t x = 0; x < c.width; x += strip) {
      const int64_t pixels = c.width - x < strip ? c.width - x : strip;
      const T* runs[3];
      for (int i = 0; i < c.kernel; i++) runs[i] = ring_row(y - pad + i) + x * inputs;
      convolve(runs, pixels);
      if (c.shuffle) {
        shuffle(image, y, x, pixels);
        continue;
      }
      const int64_t first = (at * c.width + x) * c.outputs;
      k.add_bias(sums.get(), padded, pixels, c.outputs, bias.get(), c.residual ? c.residual + first : nullptr,
                 c.output + first, sum, sum ? sum + c.outputs : nullptr);
    }
  }

  void convolve(const float* const* runs, int64_t pixels) {
    k.convolve(runs, c.kernel, c.kernel * inputs, inputs, static_cast<const float*>(c.weights), vectors, pixels, sums.get());
  }

  void convolve(const uint16_t* const* runs, int64_t pixels) {
    k.convolve_bf16(runs, c.kernel, c.kernel * inputs, inputs, static_cast<const uint16_t*>(c.weights), vectors, pixels,
                    sums.get());
  }

  // The way back from `unshuffle`, of pixels x.. of a row.
  void shuffle(int64_t image, int64_t y, int64_t x, int64_t pixels) {
    const int64_t r = c.shuffle, planes = c.outputs / (r * r);
    for (int64_t plane = 0, channel = 0; plane < planes; plane++)
      for (int64_t i = 0; i < r; i++, channel += r) {
        float* to = c.output + ((((image * planes + plane) * c.height + y) * r + i) * c.width + x) * r;
        for (int64_t pixel = 0; pixel < pixels; pixel++)
          for (int64_t j = channel; j < channel + r; j++) *to++ = sums[pixel * padded + j] + bias[j];
      }
  }

  const Kernels& k;
  const FullConvCall& c;
  int64_t pad, inputs, row_values, vectors, padded, strip;
  std::unique_ptr<T[]> ring;  // kernel × (width + 2 pad) × inputs
  std::unique_ptr<float[]> sums, bias;  // strip × padded outputs; outputs
};

}  // namespace

int64_t prepared_full_bytes(int32_t isa, int32_t bfloat16, int32_t outputs, int32_t inputs, int32_t kernel) {
  const Kernels* k = kernels(isa);
  if (!k) return 0;
  return vectors_of(*k, outputs) * k->lanes * kernel * kernel * padded_inputs(inputs, bfloat16) * (bfloat16 ? 2 : 4);
}

int32_t prepare_full(int32_t isa, int32_t bfloat16, const float* weights, int32_t outputs, int32_t inputs,
                              int32_t kernel, void* prepared) {
  const Kernels* k = kernels(isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  const int64_t taps = kernel * kernel, padded = padded_inputs(inputs, bfloat16), pair = bfloat16 ? 2 : 1;
  memset(prepared, 0, prepared_full_bytes(isa, bfloat16, outputs, inputs, kernel));
  for (int64_t o = 0; o < outputs; o++)
    for (int64_t tap = 0; tap < taps; tap++)
      for (int64_t i = 0; i < inputs; i++) {
        const int64_t step = o / k->lanes * (taps * padded / pair) + (tap * padded + i) / pair;
        const int64_t at = (step * k->lanes + o % k->lanes) * pair + i % pair;
        const float weight = *weights++;
        if (bfloat16)
          static_cast<uint16_t*>(prepared)[at] = to_bfloat16(weight);
        else
          static_cast<float*>(prepared)[at] = weight;
      }
  return BIDIFFSR_OK;
}

int32_t run_full_conv(const FullConvCall* conv) {
  const Kernels* k = kernels(conv->isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  const auto run = [&](auto make) { return in_bands(conv->threads, conv->batch, conv->height, make); };
  if (conv->bfloat16) return run([&] { return ConvBand<uint16_t>(*k, *conv); });
  return run([&] { return ConvBand<float>(*k, *conv); });
}

}  // namespace bidiffsr
