// Noise by seed, draw and place alone. Definition: `ops/reference.py`, to the last bit: no operation here is fused, and
// nothing is asked of a mathematical library, whose last bits differ.
#include <stdint.h>

#include <new>

#include "kernels.h"
#include "pool.h"

namespace bidiffsr {
namespace {

// Philox 4×32-10 (Salmon et al., SC 2011): ten rounds of a bijection of 128 bits, keyed by the seed.
void philox(uint32_t c[4], uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
    const uint64_t a = uint64_t(0xD2511F53) * c[0], b = uint64_t(0xCD9E8D57) * c[2];
    const uint32_t c1 = c[1], c3 = c[3];
    c[0] = uint32_t(b >> 32) ^ c1 ^ k0, c[1] = uint32_t(b), c[2] = uint32_t(a >> 32) ^ c3 ^ k1, c[3] = uint32_t(a);
  }
}

// Natural logarithm of (word / 2^8 + 1) / 2^24, which lies in (0, 1]: 2 atanh(s), s = (m - 1) / (m + 1).
float logarithm(uint32_t word) {
  const float u = float((word >> 8) + 1) * 0x1p-24f;
  uint32_t bits;
  __builtin_memcpy(&bits, &u, 4);
  const int32_t shifted = int32_t(bits - 0x3f3504f3);  // √½: m is within a factor of √2 of 1
  const int32_t exponent = shifted >> 23;
  bits -= uint32_t(exponent) << 23;
  float m;
  __builtin_memcpy(&m, &bits, 4);
  const float s = (m - 1.f) / (m + 1.f), z = s * s;
  float p = z * (2.f / 9) + 2.f / 7;
  p = p * z + 2.f / 5;
  p = p * z + 2.f / 3;
  p = p * z + 2.f;
  return p * s + float(exponent) * 0.69314718f;
}

// By three of Newton's steps towards 1 / √x, from what half the exponent says of it.
float square_root(float x) {
  int32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  bits = int32_t(0x5f3759dfu - uint32_t(bits >> 1));  // of -0.0 as well
  float y;
  __builtin_memcpy(&y, &bits, 4);
  for (int step = 0; step < 3; step++) y = y * (1.5f - x * 0.5f * y * y);
  return x * y;
}

// Box and Muller's pair: the distance by one word, the direction by another, an eighth of a turn on.
void normal(uint32_t distance, uint32_t direction, float* cosine, float* sine) {
  const float r = square_root(logarithm(distance) * -2.f);
  const uint32_t turn = direction >> 8, quarter = turn >> 22;
  const float a = (float(turn & 0x3fffff) * 0x1p-22f - 0.5f) * 1.57079633f, z = a * a;  // within an eighth of a turn
  float s = z * (1.f / 362880) + -1.f / 5040;
  s = s * z + 1.f / 120;
  s = s * z + -1.f / 6;
  s = (s * z + 1.f) * a;
  float c = z * (1.f / 40320) + -1.f / 720;
  c = c * z + 1.f / 24;
  c = c * z + -0.5f;
  c = c * z + 1.f;
  const float x = quarter & 1 ? -s : c, y = quarter & 1 ? c : s;
  *cosine = (quarter & 2 ? -x : x) * r, *sine = (quarter & 2 ? -y : y) * r;
}

}  // namespace
}  // namespace bidiffsr

extern "C" int32_t bidiffsr_noise(uint64_t seed, int32_t draw, int32_t height, int32_t width, int32_t threads, float* field) {
  using namespace bidiffsr;
  const int64_t size = int64_t(height) * width;
  try {
    parallel(threads, height, [&](int64_t y) {
      float *first = field + y * width, *second = first + size, *third = second + size;
      for (int32_t x = 0; x < width; x++) {
        uint32_t c[4] = {uint32_t(x), uint32_t(y), uint32_t(draw), 0};
        philox(c, uint32_t(seed), uint32_t(seed >> 32));
        float unused;
        normal(c[0], c[1], first + x, second + x);
        normal(c[2], c[3], third + x, &unused);
      }
    });
  } catch (const std::bad_alloc&) {
    return BIDIFFSR_OUT_OF_MEMORY;
  }
  return BIDIFFSR_OK;
}
