// A full-precision 3×3 convolution by Winograd's F(4×4, 3×3) (`winograd.inl`), a row of tiles after the other. Every tile
// lies at the same place whatever the bands, and is computed whole, so that no byte depends on them.
#include "conv.h"

namespace bidiffsr {
namespace {

constexpr int64_t TILE = 4, TAPS = 6, PLACES = TAPS * TAPS;
constexpr int64_t CHUNK_VALUES = 48 * 1024;  // of transformed inputs and products: 192 KB, less than a second-level cache
constexpr int64_t GAP = 16;  // values between places, a line: without it all places fall into the same few sets of a cache

// A band of output rows, on one thread.
class WinogradBand {
 public:
  WinogradBand(const Kernels& k, const FullConvCall& c)
      : k(k), c(c), tiles((c.width + TILE - 1) / TILE), inputs(k, c, TAPS, tiles * TILE + 2), outputs(k, c) {
    const int64_t per_tile = PLACES * (inputs.channels + outputs.channels);
    chunk = CHUNK_VALUES / per_tile / k.pixels * k.pixels;
    if (chunk < k.pixels) chunk = k.pixels;
    if (chunk > tiles) chunk = tiles;
    input_stride = chunk * inputs.channels + GAP, output_stride = chunk * outputs.channels + GAP;
    transformed = scratch<float>(PLACES * input_stride);
    products = scratch<float>(PLACES * output_stride);
    sums = scratch<float>(TILE * TILE * chunk * outputs.channels);
  }

  void run(int64_t image, int64_t begin, int64_t end) {
    int64_t top = begin / TILE * TILE;
    inputs.start(image, top - 1);
    outputs.start(image);
    for (; top < end; top += TILE) {
      inputs.fill(top + TILE);
      for (int64_t tile = 0; tile < tiles; tile += chunk) {
        const int64_t count = tiles - tile < chunk ? tiles - tile : chunk, x = tile * TILE;
        convolve(top, x, count);
        const int64_t pixels = c.width - x < count * TILE ? c.width - x : count * TILE;
        for (int64_t y = top < begin ? begin : top; y < top + TILE && y < end; y++)
          outputs.put(y, x, pixels, sums.get() + (y - top) * count * TILE * outputs.channels);
      }
    }
  }

 private:
  // Sums of `count` tiles from pixel x of row `top` on: TILE rows of count TILE pixels.
  void convolve(int64_t top, int64_t x, int64_t count) {
    const float* rows[TAPS];
    for (int64_t i = 0; i < TAPS; i++) rows[i] = inputs.row(top - 1 + i) + x * inputs.channels;
    k.winograd_input(rows, inputs.channels, count, transformed.get(), input_stride);
    const float* weights = static_cast<const float*>(c.weights);
    for (int64_t place = 0; place < PLACES; place++) {
      const float* values = transformed.get() + place * input_stride;
      k.convolve(&values, 1, inputs.channels, inputs.channels, weights + place * inputs.channels * outputs.channels,
                 outputs.channels / k.lanes, count, products.get() + place * output_stride);
    }
    k.winograd_output(products.get(), output_stride, outputs.channels, count, sums.get());
  }

  const Kernels& k;
  const FullConvCall& c;
  int64_t tiles, chunk;  // in a row, and of them those that are computed together
  int64_t input_stride, output_stride;  // from place to place
  InputRows<float> inputs;
  OutputRows outputs;
  std::unique_ptr<float[]> transformed, products;  // at each place chunk × channels
  std::unique_ptr<float[]> sums;                   // TILE × chunk TILE × outputs.channels
};

}  // namespace

int64_t winograd_bytes(const Kernels& k, int64_t outputs, int64_t inputs) {
  return PLACES * inputs * vectors_of(k, outputs) * k.lanes * int64_t(sizeof(float));
}

// G w Gᵀ of every output and input, as [place][outputs / lanes][inputs][lanes].
void prepare_winograd(const Kernels& k, const float* weights, int64_t outputs, int64_t inputs, float* prepared) {
  static const double G[TAPS][3] = {{1 / 4., 0, 0},          {-1 / 6., -1 / 6., -1 / 6.}, {-1 / 6., 1 / 6., -1 / 6.},
                                    {1 / 24., 1 / 12., 1 / 6.}, {1 / 24., -1 / 12., 1 / 6.}, {0, 0, 1}};
  const int64_t padded = vectors_of(k, outputs) * k.lanes;
  for (int64_t o = 0; o < outputs; o++, weights += 9 * inputs)
    for (int64_t i = 0; i < inputs; i++)
      for (int64_t place = 0; place < PLACES; place++) {
        double sum = 0;
        for (int64_t tap = 0; tap < 9; tap++)
          sum += G[place / TAPS][tap / 3] * double(weights[tap * inputs + i]) * G[place % TAPS][tap % 3];
        prepared[place * inputs * padded + (o / k.lanes * inputs + i) * k.lanes + o % k.lanes] = float(sum);
      }
}

bidiffsr_status run_winograd(const Kernels& k, const FullConvCall& conv) {
  return in_bands(conv.threads, conv.batch, conv.height, [&] { return WinogradBand(k, conv); });
}

}  // namespace bidiffsr
