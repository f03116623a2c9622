// What GroupNorm needs of a feature map.
#include <string.h>

#include <new>

#include "kernels.h"
#include "pool.h"

namespace bidiffsr {
int32_t row_moments(int32_t isa, int32_t threads, const float* x, int64_t rows, int64_t width, int64_t channels,
                         float* moments) {
  const Kernels* k = kernels(isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  try {
    parallel(threads, rows, [&](int64_t row) {
      float* sum = moments + row * 2 * channels;
      memset(sum, 0, 2 * channels * sizeof(float));
      k->moments(x + row * width * channels, width, channels, sum, sum + channels);
    });
  } catch (const std::bad_alloc&) {
    return BIDIFFSR_OUT_OF_MEMORY;
  }
  return BIDIFFSR_OK;
}

void norm_coefficients(const float* moments, int64_t rows, int64_t width, int64_t channels, int64_t groups,
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

}  // namespace bidiffsr
