// What GroupNorm needs of a feature map, and the machine's own speed.
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
