// Passes over feature maps around the full-precision convolutions, which torch computes; and the machine's own speed.
#include <string.h>

#include <chrono>
#include <new>

#include "kernels.h"
#include "pool.h"

using namespace bidiffsr;

namespace {

struct MomentsArgs {
  const Kernels& k;
  const float* x;
  int64_t width, channels;
  float* moments;

  static void run(void* context, int64_t row) {
    const MomentsArgs& a = *static_cast<MomentsArgs*>(context);
    float* sum = a.moments + row * 2 * a.channels;
    memset(sum, 0, 2 * a.channels * sizeof(float));
    a.k.moments(a.x + row * a.width * a.channels, a.width, a.channels, sum, sum + a.channels);
  }
};

// Zeros in `channels` of every pixel of a row, from value `at` on, pixels being `stride` values of some bytes apart.
void clear(void* out, int64_t at, int64_t width, int64_t channels, int64_t stride, int64_t bytes) {
  for (int64_t x = 0; x < width; x++)
    memset(static_cast<uint8_t*>(out) + (at + x * stride) * bytes, 0, channels * bytes);
}

float widened(uint16_t bfloat16) {
  const uint32_t bits = uint32_t(bfloat16) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

template <class Work>
double seconds(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double best(double a, double b) { return a > b ? a : b; }

}  // namespace

extern "C" {

int32_t bidiffsr_moments(int32_t isa, int32_t threads, const float* x, int64_t rows, int64_t width, int64_t channels,
                         float* moments) {
  const Kernels* k = kernels(isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  MomentsArgs args{*k, x, width, channels, moments};
  try {
    parallel(threads, rows, MomentsArgs::run, &args);
  } catch (const std::bad_alloc&) {
    return BIDIFFSR_OUT_OF_MEMORY;
  }
  return BIDIFFSR_OK;
}

void bidiffsr_norm_coefficients(const float* moments, int64_t rows, int64_t width, int64_t channels, int64_t groups,
                                double eps, const float* gamma, const float* beta, float* scale, float* shift) {
  const int64_t size = channels / groups;
  for (int64_t group = 0; group < groups; group++) {
    double sum = 0, square = 0;
    for (int64_t row = 0; row < rows; row++) {
      const float* at = moments + row * 2 * channels + group * size;
      for (int64_t c = 0; c < size; c++) sum += at[c], square += at[channels + c];
    }
    const double count = double(rows * width * size), mean = sum / count;
    const double variance = square / count - mean * mean;
    const double rate = 1 / __builtin_sqrt((variance > 0 ? variance : 0) + eps);
    for (int64_t c = group * size; c < (group + 1) * size; c++) {
      scale[c] = float(gamma[c] * rate);
      shift[c] = float(beta[c] - mean * gamma[c] * rate);
    }
  }
}

int32_t bidiffsr_activate_rows(int32_t isa, const float* x, int64_t height, int64_t width, int64_t channels,
                               const float* scale, const float* shift, int64_t first, int64_t last, void* out,
                               int64_t out_channels, int32_t bfloat16) {
  const Kernels* k = kernels(isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  for (int64_t row = first; row < last; row++) {
    const bool inside = 0 <= row && row < height;
    const float* from = inside ? x + row * width * channels : nullptr;
    const int64_t at = (row - first) * width * out_channels;
    if (!inside)
      clear(out, at, width, channels, out_channels, bfloat16 ? 2 : 4);
    else if (bfloat16)
      k->activate_bf16(from, width, channels, scale, shift, static_cast<uint16_t*>(out) + at, out_channels);
    else
      k->activate(from, width, channels, scale, shift, static_cast<float*>(out) + at, out_channels);
  }
  return BIDIFFSR_OK;
}

void bidiffsr_unshuffle_rows(const float* planes, int64_t channels, int64_t height, int64_t width, int64_t r,
                             int64_t first, int64_t last, float* out, int64_t out_channels) {
  for (int64_t row = first; row < last; row++, out += width * out_channels) {
    if (row < 0 || row >= height) {
      clear(out, 0, width, channels * r * r, out_channels, 4);
      continue;
    }
    for (int64_t c = 0; c < channels; c++)
      for (int64_t i = 0; i < r; i++) {
        const float* from = planes + ((c * height + row) * r + i) * width * r;
        float* to = out + c * r * r + i * r;
        for (int64_t x = 0; x < width; x++, to += out_channels)
          for (int64_t j = 0; j < r; j++) to[j] = *from++;
      }
  }
}

void bidiffsr_shuffle_rows(const void* y, int32_t bfloat16, const float* bias, int64_t rows, int64_t width,
                           int64_t channels, int64_t r, int64_t first, int64_t height, float* planes) {
  const int64_t all = channels * r * r;
  for (int64_t row = 0; row < rows; row++)
    for (int64_t c = 0; c < channels; c++)
      for (int64_t i = 0; i < r; i++) {
        float* to = planes + ((c * height + first + row) * r + i) * width * r;
        for (int64_t x = 0; x < width; x++)
          for (int64_t j = 0; j < r; j++) {
            const int64_t channel = c * r * r + i * r + j, at = (row * width + x) * all + channel;
            *to++ = bias[channel] + (bfloat16 ? widened(static_cast<const uint16_t*>(y)[at]) : static_cast<const float*>(y)[at]);
          }
      }
}

int32_t bidiffsr_finish_rows(int32_t isa, const void* y, int32_t bfloat16, int64_t rows, int64_t width, int64_t channels,
                             const float* bias, const float* residual, float* out, float* moments) {
  const Kernels* k = kernels(isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  for (int64_t row = 0; row < rows; row++) {
    const int64_t at = row * width * channels;
    float* sum = moments ? moments + row * 2 * channels : nullptr;
    if (sum) memset(sum, 0, 2 * channels * sizeof(float));
    float* square = sum ? sum + channels : nullptr;
    const float* added = residual ? residual + at : nullptr;
    if (bfloat16)
      k->add_bias_bf16(static_cast<const uint16_t*>(y) + at, width, channels, bias, added, out + at, sum, square);
    else
      k->add_bias(static_cast<const float*>(y) + at, width, channels, bias, added, out + at, sum, square);
  }
  return BIDIFFSR_OK;
}

double bidiffsr_peak_rate(int32_t isa) {
  const Kernels* k = kernels(isa);
  if (!k) return 0;
  double rate = 0;
  for (int i = 0; i < 5; i++) {
    double work = 0;
    const double taken = seconds([&] { work = k->peak(200000); });
    rate = best(rate, work / taken);
  }
  return rate;
}

double bidiffsr_clock_rate(void) {
  double rate = 0;
  for (int i = 0; i < 5; i++) {
    uint64_t x = uint64_t(i);
    const double taken = seconds([&] {
      for (int j = 0; j < 2000000; j++) {  // eight additions, each of which waits for the one before: a cycle each
        for (int step = 0; step < 8; step++) {
          x += uint64_t(j);
          __asm__ volatile("" : "+r"(x));
        }
      }
    });
    rate = best(rate, 8 * 2000000 / taken);
  }
  return rate;
}

}  // extern "C"
