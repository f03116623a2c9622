// The numbers of a checkpoint file, checked and widened.
#include <string.h>

#include "bidiffsr_ops.h"

namespace {

uint32_t float32_of(const uint8_t* octets) {
  return uint32_t(octets[0]) | uint32_t(octets[1]) << 8 | uint32_t(octets[2]) << 16 | uint32_t(octets[3]) << 24;
}

// The bits of a float16 as those of a float32. Small ones, which float16 writes without a leading 1, are multiples of
// 2^-24, which float32 holds as it holds any other value.
uint32_t float16_of(const uint8_t* octets) {
  const uint32_t half = uint32_t(octets[0]) | uint32_t(octets[1]) << 8;
  const uint32_t magnitude = half & 0x7fff;
  const float multiple = float(int32_t(magnitude)) * 0x1p-24f;
  uint32_t small;
  memcpy(&small, &multiple, 4);
  const uint32_t large = (magnitude << 13) + (magnitude >= 0x7c00 ? 224u << 23 : 112u << 23);
  return (half & 0x8000) << 16 | (magnitude < 0x400 ? small : large);
}

bool is_finite(uint32_t bits) { return (bits & 0x7f800000) != 0x7f800000; }

template <int BYTES, uint32_t (*READ)(const uint8_t*)>
int64_t read(const uint8_t* octets, int64_t count, float* values) {
  uint32_t strange = 0;  // looked at once, so that the loop can be one of vectors
  for (int64_t i = 0; i < count; i++) {
    const uint32_t bits = READ(octets + BYTES * i);
    strange |= uint32_t(!is_finite(bits));
    memcpy(values + i, &bits, 4);
  }
  if (!strange) return -1;
  int64_t first = 0;
  while (is_finite(READ(octets + BYTES * first))) first++;
  return first;
}

}  // namespace

int64_t bidiffsr_read_floats(const void* octets, int32_t half, int64_t count, float* values) {
  const uint8_t* bytes = static_cast<const uint8_t*>(octets);
  return half ? read<2, float16_of>(bytes, count, values) : read<4, float32_of>(bytes, count, values);
}

void bidiffsr_read_levels(const int8_t* levels, const float* scales, int64_t rows, int64_t count, float* values) {
  for (int64_t row = 0; row < rows; row++)
    for (int64_t i = 0; i < count; i++) *values++ = float(*levels++) * scales[row];
}
