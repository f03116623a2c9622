// Pictures in bands of rows, each of them one thread's, and memory for what a band has to remember on its way down.
#pragma once

#include <stdint.h>

#include <memory>
#include <new>

#include "operations.h"
#include "pool.h"

namespace bidiffsr {

template <class T>
std::unique_ptr<T[]> scratch(int64_t count) {
  return std::unique_ptr<T[]>(new T[size_t(count)]);
}

// Rows of a band: three bands for each thread even out their speeds. A band computes up to two rows of its neighbours
// anew, so there are at least eight; their number is a multiple of four, the rows of Winograd's tiles.
inline int64_t band_rows(int64_t height, int threads) {
  const int64_t bands = threads < 2 ? 1 : int64_t(3) * threads;
  const int64_t rows = (height + bands - 1) / bands;
  return rows < 8 ? 8 : (rows + 3) / 4 * 4;
}

// Calls make().run(image, first row, last row + 1) for all bands of `batch` pictures.
template <class Make>
bidiffsr_status in_bands(int threads, int64_t batch, int64_t height, const Make& make) {
  const int64_t rows = band_rows(height, threads), per_image = (height + rows - 1) / rows;
  try {
    parallel(threads, batch * per_image, [&](int64_t task) {
      const int64_t begin = task % per_image * rows, end = begin + rows;
      make().run(task / per_image, begin, end < height ? end : height);
    });
  } catch (const std::bad_alloc&) {
    return BIDIFFSR_OUT_OF_MEMORY;
  }
  return BIDIFFSR_OK;
}

}  // namespace bidiffsr
