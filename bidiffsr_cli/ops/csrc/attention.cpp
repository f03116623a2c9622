// Self-attention over all pixels of a map, with the norm before it and the shortcut around it. Scores, and sums weighted
// by them, are convolutions of one tap whose "weights" are the keys and the values.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "bands.h"
#include "kernels.h"

namespace bidiffsr {
namespace {

constexpr int64_t STRIP = 32;  // pixels that are computed together

// What all bands of one picture share.
struct Tokens {
  const Kernels& k;
  const AttentionCall& a;
  int64_t image, count, channels, padded_count, padded_channels, padded_triple;
  std::unique_ptr<float[]> queries;  // count × channels, divided by √channels
  std::unique_ptr<float[]> keys;     // as weights: count / lanes × channels × lanes
  std::unique_ptr<float[]> values;   // as weights: channels / lanes × count × lanes

  Tokens(const Kernels& k, const AttentionCall& a, int64_t image) : k(k), a(a), image(image) {
    count = int64_t(a.height) * a.width, channels = a.channels;
    padded_count = vectors_of(k, count) * k.lanes, padded_channels = vectors_of(k, channels) * k.lanes;
    padded_triple = vectors_of(k, 3 * channels) * k.lanes;
    queries = scratch<float>(count * channels);
    keys = scratch<float>(padded_count * channels), values = scratch<float>(padded_channels * count);
    if (padded_count > count) memset(keys.get(), 0, padded_count * channels * sizeof(float));
    if (padded_channels > channels) memset(values.get(), 0, padded_channels * count * sizeof(float));
  }

  // x (pixels × inputs, `stride` apart) times weights of one tap, to out, padded to whole vectors.
  void multiply(const float* x, int64_t inputs, int64_t stride, const void* weights, int64_t outputs, int64_t pixels,
                float* out) const {
    k.convolve(&x, 1, inputs, stride, static_cast<const float*>(weights), vectors_of(k, outputs), pixels, out);
  }

  // Calls work(first token, tokens) for rows begin..end-1, in strips that do not reach over a row.
  template <class Work>
  void strips(int64_t begin, int64_t end, const Work& work) const {
    for (int64_t y = begin; y < end; y++)
      for (int64_t x = 0; x < a.width; x += STRIP)
        work(y * a.width + x, a.width - x < STRIP ? a.width - x : STRIP);
  }
};

// Queries, keys and values of a band.
struct Projection {
  Tokens& t;
  std::unique_ptr<float[]> normed = scratch<float>(STRIP * t.channels), made = scratch<float>(STRIP * t.padded_triple);

  explicit Projection(Tokens& t) : t(t) {}

  void run(int64_t, int64_t begin, int64_t end) {
    const int64_t channels = t.channels, lanes = t.k.lanes, norm = t.image * channels;
    const float rate = float(1 / sqrt(double(channels)));
    t.strips(begin, end, [&](int64_t first, int64_t pixels) {
      t.k.activate(t.a.x + (t.image * t.count + first) * channels, pixels, channels, t.a.norm_scale + norm,
                   t.a.norm_shift + norm, LINEAR, normed.get(), channels);
      t.multiply(normed.get(), channels, channels, t.a.qkv, 3 * channels, pixels, made.get());
      for (int64_t token = first; token < first + pixels; token++) {
        const float* from = made.get() + (token - first) * t.padded_triple;
        float* key = t.keys.get() + token / lanes * lanes * channels + token % lanes;
        for (int64_t c = 0; c < channels; c++) {
          t.queries[token * channels + c] = from[c] * rate;
          key[c * lanes] = from[channels + c];
          t.values[(c / lanes * t.count + token) * lanes + c % lanes] = from[2 * channels + c];
        }
      }
    });
  }
};

// The attention of a band's queries to everything.
struct Attention {
  const Tokens& t;
  std::unique_ptr<float[]> scores = scratch<float>(STRIP * t.padded_count);
  std::unique_ptr<float[]> mixed = scratch<float>(STRIP * t.padded_channels);
  std::unique_ptr<float[]> made = scratch<float>(STRIP * t.padded_channels);

  explicit Attention(const Tokens& t) : t(t) {}

  void run(int64_t, int64_t begin, int64_t end) {
    const int64_t channels = t.channels;
    float* rows = t.a.moments ? t.a.moments + (t.image * t.a.height + begin) * 2 * channels : nullptr;
    if (rows) memset(rows, 0, (end - begin) * 2 * channels * sizeof(float));
    t.strips(begin, end, [&](int64_t first, int64_t pixels) {
      t.multiply(t.queries.get() + first * channels, channels, channels, t.keys.get(), t.count, pixels, scores.get());
      for (int64_t pixel = 0; pixel < pixels; pixel++) t.k.softmax(scores.get() + pixel * t.padded_count, t.count);
      t.multiply(scores.get(), t.count, t.padded_count, t.values.get(), channels, pixels, mixed.get());
      t.multiply(mixed.get(), channels, t.padded_channels, t.a.out, channels, pixels, made.get());
      const int64_t at = (t.image * t.count + first) * channels;
      float* sum = rows ? rows + (first / t.a.width - begin) * 2 * channels : nullptr;
      t.k.add_bias(made.get(), t.padded_channels, pixels, channels, t.a.bias, t.a.x + at, t.a.output + at, sum,
                   sum ? sum + channels : nullptr);
    });
  }
};

}  // namespace

int32_t run_attention(const AttentionCall* attention) {
  const AttentionCall& a = *attention;
  const Kernels* k = kernels(a.isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  try {
    for (int64_t image = 0; image < a.batch; image++) {
      Tokens tokens(*k, a, image);
      bidiffsr_status status = in_bands(a.threads, 1, a.height, [&] { return Projection(tokens); });
      if (status == BIDIFFSR_OK) status = in_bands(a.threads, 1, a.height, [&] { return Attention(tokens); });
      if (status != BIDIFFSR_OK) return status;
    }
  } catch (const std::bad_alloc&) {
    return BIDIFFSR_OUT_OF_MEMORY;
  }
  return BIDIFFSR_OK;
}

}  // namespace bidiffsr
