// The float loops, written once with the compiler's vectors and compiled for each instruction set: included by its file
// behind the target pragma, with LANES defined, inside an anonymous namespace.
//
// No multiply-add is fused (-ffp-contract=off) but in full-precision convolutions (`conv.inl`), and every channel's sum
// runs in the order of the pixels, so that all instruction sets give the same bytes.

#include "vectors.inl"

constexpr float LOG2_E = 1.44269504f;

// 2^t of t within ±125. Split into an integer n and a rest f in [-1/2, 1/2] it is 2^n 2^f; the polynomial is the one of
// degree 5 with the least relative error on that interval, 7.5e-8 (Remez' algorithm).
INLINE vf power_of_two(vf t) {
  const float round = 12582912.f;  // 1.5 · 2^23: adding it leaves n in the low bits
  const vf shifted = t + round;
  const vf f = t - (shifted - round);
  vf p = f * 0.0013276472f + 0.0096755413f;
  p = p * f + 0.055507133f;
  p = p * f + 0.2402212f;
  p = p * f + 0.69314697f;
  p = p * f + 1.00000007f;
  return (vf)((vu)p + ((vu)shifted << 23));  // n is added to the exponent
}

// x / (1 + exp(-x)).
INLINE vf silu(vf x) {
  vf t = x * -LOG2_E;
  t = t < 125.f ? t : vf{} + 125.f;
  t = t > -125.f ? t : vf{} - 125.f;
  return x / (1.f + power_of_two(t));
}

// To nearest even, as the processor's own conversion; a NaN that arithmetic makes stays one.
INLINE vh narrow(vf v) {
  const vu bits = (vu)v;
  return __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, vh);
}

INLINE void store_float(float* p, vf v, int64_t n) { store(p, v, n); }
INLINE void store_float(uint16_t* p, vf v, int64_t n) { store(p, narrow(v), n); }

template <class Out>
static void activate(const float* x, int64_t pixels, int64_t channels, const float* scale, const float* shift,
                     Activation activation, Out* out, int64_t stride) {
  for (int64_t pixel = 0; pixel < pixels; pixel++, x += channels, out += stride) {
    const auto step = [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      vf v = load<vf>(x + c, n);
      if (scale) v = v * load<vf>(scale + c, n) + load<vf>(shift + c, n);
      if (activation == SILU) v = silu(v);
      if (activation == RELU) v = v > 0.f ? v : v * 0.f;  // a NaN stays one
      store_float(out + c, v, n);
    };
    FOR_CHANNELS(channels, step);
  }
}

template <bool with_moments>
static void add_bias_loop(const float* y, int64_t y_stride, int64_t pixels, int64_t channels, const float* bias,
                          const float* residual, float* out, float* sum, float* square) {
  const auto column = [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    const vf b = load<vf>(bias + c, n);
    vf s = {}, q = {};
    if (with_moments) s = load<vf>(sum + c, n), q = load<vf>(square + c, n);
    const float* from = y + c;
    for (int64_t i = c; i < pixels * channels; i += channels, from += y_stride) {
      vf v = load<vf>(from, n) + b;
      if (residual) v += load<vf>(residual + i, n);
      store(out + i, v, n);
      if (with_moments) s += v, q += v * v;
    }
    if (with_moments) store(sum + c, s, n), store(square + c, q, n);
  };
  FOR_CHANNELS(channels, column);
}

static void add_bias(const float* y, int64_t y_stride, int64_t pixels, int64_t channels, const float* bias,
                     const float* residual, float* out, float* sum, float* square) {
  if (sum)
    add_bias_loop<true>(y, y_stride, pixels, channels, bias, residual, out, sum, square);
  else
    add_bias_loop<false>(y, y_stride, pixels, channels, bias, residual, out, sum, square);
}

// Sums run over sixteen values side by side, whatever the number of lanes, so that all instruction sets add alike.
static void softmax(float* x, int64_t count) {
  constexpr int SIDE = 16;
  float most = x[0];
  for (int64_t i = 1; i < count; i++) most = x[i] > most ? x[i] : most;
  float sums[SIDE] = {};
  const auto step = [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    vf t = (load<vf>(x + i, n) - most) * LOG2_E;
    t = t < -125.f ? vf{} - 125.f : t;
    const vf share = power_of_two(t);
    store(x + i, t == t ? share : t, n);  // what is no number stays none
    float* sum = sums + i % SIDE;
    store(sum, load<vf>(sum) + load<vf>(x + i, n));
  };
  FOR_CHANNELS(count, step);
  for (int side = SIDE / 2; side; side /= 2)
    for (int i = 0; i < side; i++) sums[i] += sums[i + side];
  const float rate = 1 / sums[0];
  const auto scaled = [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    store(x + i, load<vf>(x + i, n) * rate, n);
  };
  FOR_CHANNELS(count, scaled);
}

static void moments(const float* x, int64_t pixels, int64_t channels, float* sum, float* square) {
  const auto column = [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    vf s = load<vf>(sum + c, n), q = load<vf>(square + c, n);
    for (int64_t i = c; i < pixels * channels; i += channels) {
      const vf v = load<vf>(x + i, n);
      s += v, q += v * v;
    }
    store(sum + c, s, n), store(square + c, q, n);
  };
  FOR_CHANNELS(channels, column);
}

template <bidiffsr_identity identity, bool with_added, bool with_moments>
static void finish_loop(const FinishArgs& a) {
  const auto column = [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    const vi bias = load<vi>(a.bias + c, n);
    const vf alpha = load<vf>(a.alpha + c, n), shift = load<vf>(a.shift + c, n);
    const vf slope = load<vf>(a.slope + c, n), offset = load<vf>(a.offset + c, n);
    const vf addend = a.addend ? load<vf>(a.addend + c, n) : vf{};
    vf s = {}, q = {};
    if (with_moments) s = load<vf>(a.sum + c, n), q = load<vf>(a.square + c, n);
    for (int64_t pixel = 0; pixel < a.pixels; pixel++) {
      const vi count = __builtin_convertvector(load<vh>(a.counts + pixel * a.counts_stride + c, n), vi);
      vf v = __builtin_convertvector(bias - 2 * count, vf) * alpha;
      if (identity == BIDIFFSR_BEFORE) v += load<vf>(a.identity + pixel * a.identity_stride + c, n);
      v += shift;
      v = v > 0.f ? v : v * slope;
      v += offset;
      if (identity == BIDIFFSR_AFTER) v += load<vf>(a.identity + pixel * a.identity_stride + c, n);
      v += addend;
      if (with_added) v += load<vf>(a.added + pixel * a.added_stride + c, n);
      store(a.out + pixel * a.out_stride + c, v, n);
      if (with_moments) s += v, q += v * v;
    }
    if (with_moments) store(a.sum + c, s, n), store(a.square + c, q, n);
  };
  FOR_CHANNELS(a.channels, column);
}

template <bidiffsr_identity identity, bool with_added>
static void finish_with(const FinishArgs& a) {
  a.sum ? finish_loop<identity, with_added, true>(a) : finish_loop<identity, with_added, false>(a);
}

template <bidiffsr_identity identity>
static void finish_with(const FinishArgs& a) {
  a.added ? finish_with<identity, true>(a) : finish_with<identity, false>(a);
}

static void finish(const FinishArgs& a) {
  if (!a.identity)
    finish_with<BIDIFFSR_NONE>(a);
  else if (a.identity_first)
    finish_with<BIDIFFSR_BEFORE>(a);
  else
    finish_with<BIDIFFSR_AFTER>(a);
}
