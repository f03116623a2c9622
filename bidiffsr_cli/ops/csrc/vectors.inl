// The compiler's vectors of LANES float32 values, and what moves them: included by `rows.inl`, or by an instruction set's
// file itself, behind the target pragma, with LANES defined, inside an anonymous namespace.

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * LANES)));

#define INLINE static inline __attribute__((always_inline))

// The first n <= LANES elements; the rest is zero. n is LANES but for a picture's last channels.
template <class V, class T>
INLINE V load(const T* p, int64_t n = LANES) {
  V v = {};
  __builtin_memcpy(&v, p, n == LANES ? sizeof v : n * sizeof(T));
  return v;
}

template <class V, class T>
INLINE void store(T* p, const V& v, int64_t n = LANES) {
  __builtin_memcpy(p, &v, n == LANES ? sizeof v : n * sizeof(T));
}

// Whether channels [c, c + n) are whole vectors is known at the call, so that the compiler drops the partial loads.
#define FOR_CHANNELS(channels, body)                              \
  do {                                                            \
    const int64_t whole_ = (channels) / LANES * LANES;            \
    for (int64_t c = 0; c < whole_; c += LANES) body(c, LANES);   \
    if (whole_ < (channels)) body(whole_, (channels) - whole_);   \
  } while (0)
