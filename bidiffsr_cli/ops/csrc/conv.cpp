// A full-precision convolution: of one tap by its definition, row by row, of 3×3 by Winograd's algorithm.
#include "conv.h"

namespace bidiffsr {
namespace {

constexpr int64_t STRIP_SUMS = 8192;  // sums that are finished together: 32 KB, about a first-level cache

// A band of output rows, on one thread.
template <class T>
class ConvBand {
 public:
  ConvBand(const Kernels& k, const FullConvCall& c)
      : k(k), c(c), direct(reads_sources(c)), inputs(k, c, direct ? 0 : 1, c.width), outputs(k, c) {
    strip = STRIP_SUMS / outputs.channels < 16 ? 16 : STRIP_SUMS / outputs.channels;
    sums = scratch<float>(strip * outputs.channels);
  }

  void run(int64_t image, int64_t begin, int64_t end) {
    inputs.start(image, begin);
    outputs.start(image);
    for (int64_t y = begin; y < end; y++) {
      if (!direct) inputs.fill(y);
      for (int64_t x = 0; x < c.width; x += strip) {
        const int64_t pixels = c.width - x < strip ? c.width - x : strip;
        if (direct)
          convolve_sources((image * c.height + y) * c.width + x, pixels);
        else
          convolve(inputs.row(y) + x * inputs.channels, pixels);
        outputs.put(y, x, pixels, sums.get());
      }
    }
  }

 private:
  // Whether a pixel's channels are read where they lie: nothing happens to them, and the sources are alike.
  static bool reads_sources(const FullConvCall& c) {
    return sizeof(T) == 4 && !c.norm_scale && !c.relu && !c.unshuffle &&
           (!c.source_channels[1] || c.source_channels[1] == c.source_channels[0]);
  }

  void convolve_sources(int64_t pixel, int64_t pixels) {
    const int64_t channels = c.source_channels[0];
    const float* runs[2];
    for (int i = 0; i < 2; i++) runs[i] = c.source[i] ? c.source[i] + pixel * channels : nullptr;
    k.convolve(runs, c.source_channels[1] ? 2 : 1, channels, channels, static_cast<const float*>(c.weights),
               outputs.channels / k.lanes, pixels, sums.get());
  }

  void convolve(const float* x, int64_t pixels) {
    k.convolve(&x, 1, inputs.channels, inputs.channels, static_cast<const float*>(c.weights), outputs.channels / k.lanes,
               pixels, sums.get());
  }

  void convolve(const uint16_t* x, int64_t pixels) {
    k.convolve_bf16(&x, 1, inputs.channels, inputs.channels, static_cast<const uint16_t*>(c.weights),
                    outputs.channels / k.lanes, pixels, sums.get());
  }

  const Kernels& k;
  const FullConvCall& c;
  const bool direct;
  int64_t strip;
  InputRows<T> inputs;
  OutputRows outputs;
  std::unique_ptr<float[]> sums;  // strip × outputs.channels
};

}  // namespace

int64_t prepared_full_bytes(int32_t isa, int32_t bfloat16, int32_t outputs, int32_t inputs, int32_t kernel) {
  const Kernels* k = kernels(isa);
  if (!k) return 0;
  if (kernel == 3) return winograd_bytes(*k, outputs, inputs);
  return vectors_of(*k, outputs) * k->lanes * padded_inputs(inputs, bfloat16) * (bfloat16 ? 2 : 4);
}

int32_t prepare_full(int32_t isa, int32_t bfloat16, const float* weights, int32_t outputs, int32_t inputs,
                     int32_t kernel, void* prepared) {
  const Kernels* k = kernels(isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  memset(prepared, 0, prepared_full_bytes(isa, bfloat16, outputs, inputs, kernel));
  if (kernel == 3) {
    prepare_winograd(*k, weights, outputs, inputs, static_cast<float*>(prepared));
    return BIDIFFSR_OK;
  }
  const int64_t padded = padded_inputs(inputs, bfloat16), pair = bfloat16 ? 2 : 1;
  for (int64_t o = 0; o < outputs; o++)
    for (int64_t i = 0; i < inputs; i++) {
      const int64_t step = (o / k->lanes * padded + i) / pair;
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
  if (conv->kernel == 3) return run_winograd(*k, *conv);
  const auto run = [&](auto make) { return in_bands(conv->threads, conv->batch, conv->height, make); };
  if (conv->bfloat16) return run([&] { return ConvBand<uint16_t>(*k, *conv); });
  return run([&] { return ConvBand<float>(*k, *conv); });
}

}  // namespace bidiffsr
