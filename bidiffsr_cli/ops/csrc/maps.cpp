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
                               int32_t bfloat16) {
  const Kernels* k = kernels(isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  const int64_t row = width * channels, row_bytes = row * (bfloat16 ? 2 : 4);
  const int64_t begin = first < 0 ? (last < 0 ? last : 0) : first;  // begin..end-1 lie in the picture, maybe none
  const int64_t end = last > height ? (first > height ? first : height) : last;
  uint8_t* inside = static_cast<uint8_t*>(out) + (begin - first) * row_bytes;
  memset(out, 0, (begin - first) * row_bytes);
  memset(inside + (end - begin) * row_bytes, 0, (last - end) * row_bytes);
  if (begin == end) return BIDIFFSR_OK;
  const int64_t pixels = (end - begin) * width;
  if (bfloat16)
    k->activate_bf16(x + begin * row, pixels, channels, scale, shift, reinterpret_cast<uint16_t*>(inside));
  else
    k->activate(x + begin * row, pixels, channels, scale, shift, reinterpret_cast<float*>(inside));
  return BIDIFFSR_OK;
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
