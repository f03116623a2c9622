// Winograd's F(4×4, 3×3) (Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, 2016): 4×4 outputs of a 3×3
// convolution of one channel are Aᵀ [(G w Gᵀ) ∘ (Bᵀ d B)] A, where d are the 6×6 inputs around them: 36 multiplications
// instead of 144. Here are both transforms of values, `winograd.cpp` has that of weights. Included like `conv.inl`.

// Bᵀ, of six values that are `step` vectors apart, in place.
INLINE void to_winograd(vf* d, int step) {
  const vf d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  const vf even = d4 - 4.f * d2, odd = d3 - 4.f * d1, near = d4 - d2, twice = 2.f * (d3 - d1);
  d[0] = 4.f * d0 - 5.f * d2 + d4;
  d[step] = even + odd;
  d[2 * step] = even - odd;
  d[3 * step] = near + twice;
  d[4 * step] = near - twice;
  d[5 * step] = 4.f * d1 - 5.f * d3 + d5;
}

// Aᵀ, of six values that are `step` vectors apart, to four that are `out_step` apart.
INLINE void from_winograd(const vf* m, int step, vf* out, int out_step) {
  const vf sum12 = m[step] + m[2 * step], difference12 = m[step] - m[2 * step];
  const vf sum34 = m[3 * step] + m[4 * step], difference34 = m[3 * step] - m[4 * step];
  out[0] = m[0] + sum12 + sum34;
  out[out_step] = difference12 + 2.f * difference34;
  out[2 * out_step] = sum12 + 4.f * sum34;
  out[3 * out_step] = difference12 + 8.f * difference34 + m[5 * step];
}

void winograd_input(const float* const* rows, int64_t channels, int64_t tiles, float* out, int64_t stride) {
  for (int64_t tile = 0; tile < tiles; tile++) {
    const auto step = [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      vf d[36];
      UNROLL for (int x = 0; x < 6; x++) {
        UNROLL for (int y = 0; y < 6; y++) d[6 * y + x] = load<vf>(rows[y] + (4 * tile + x) * channels + c, n);
        to_winograd(d + x, 6);
      }
      UNROLL for (int y = 0; y < 6; y++) {
        to_winograd(d + 6 * y, 1);
        UNROLL for (int x = 0; x < 6; x++) store(out + (6 * y + x) * stride + tile * channels + c, d[6 * y + x], n);
      }
    };
    FOR_CHANNELS(channels, step);
  }
}

void winograd_output(const float* products, int64_t stride, int64_t channels, int64_t tiles, float* out) {
  for (int64_t tile = 0; tile < tiles; tile++)
    for (int64_t c = 0; c < channels; c += LANES) {
      vf made[24];
      UNROLL for (int x = 0; x < 6; x++) {
        vf m[6];
        UNROLL for (int y = 0; y < 6; y++) m[y] = load<vf>(products + (6 * y + x) * stride + tile * channels + c);
        from_winograd(m, 1, made + x, 6);
      }
      UNROLL for (int y = 0; y < 4; y++) {
        vf row[4];
        from_winograd(made + 6 * y, 1, row, 1);
        UNROLL for (int x = 0; x < 4; x++) store(out + ((y * tiles + tile) * 4 + x) * channels + c, row[x]);
      }
    }
}
