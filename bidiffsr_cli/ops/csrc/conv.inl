// Full-precision convolutions as products of small matrices: tiles of P pixels × V vectors of outputs stay in registers
// while the channels go by. Included by the files of instruction sets inside an anonymous namespace, behind
// rows.inl, UNROLL and fused(a, b, c) = a b + c.
//
// Every sum runs over channels in order, so that no byte depends on how pixels fall into tiles.

template <class T>
struct ConvArgs {
  const T* const* runs;
  int rows;
  int64_t run, stride;
  const T* weights;
  int64_t blocks, pixels;
  float* out;
};

// sum + x w: one channel, or two neighbouring ones of bfloat16, of which the lower half is the first.
INLINE vf multiplied(const float* x, vf w, vf sum) { return fused(*x - vf{}, w, sum); }  // x - 0 is x, -0.0 too

#if !defined(OWN_BFLOAT16)
INLINE vf multiplied(const uint16_t* x, vf w, vf sum) {
  uint32_t both;
  __builtin_memcpy(&both, x, 4);
  const vu a = vu{} + both, high = vu{} + 0xffff0000u;
  sum = fused((vf)(a << 16), (vf)((vu)w << 16), sum);
  return fused((vf)(a & high), (vf)((vu)w & high), sum);
}
#endif

template <int P, int V, class T>
INLINE void conv_tile(const T* const* runs, int rows, int64_t run, int64_t stride, const T* weights, int64_t block_size,
                      float* out, int64_t out_stride) {
  constexpr int STEP = 4 / sizeof(T);  // channels of one 32-bit word
  vf sum[P][V];
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < V; v++) sum[p][v] = vf{};
  for (int r = 0; r < rows; r++) {
    const T* x[(P + 2) / 3];  // of every third pixel: two strides are the most that an address can add
    UNROLL for (int p = 0; p < P; p += 3) x[p / 3] = runs[r] + p * stride;
    for (int64_t i = 0; i < run; i += STEP, weights += STEP * LANES) {
      vf w[V];
      UNROLL for (int v = 0; v < V; v++) __builtin_memcpy(&w[v], weights + v * block_size, sizeof w[v]);
      UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < V; v++)
          sum[p][v] = multiplied(x[p / 3] + p % 3 * stride, w[v], sum[p][v]);
      UNROLL for (auto& pixel : x) pixel += STEP;
    }
  }
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < V; v++) store(out + p * out_stride + v * LANES, sum[p][v]);
}

// From `block` on, as many times V blocks of outputs as there are; returns the first block that is left. Where fewer
// than P pixels are left, some before them are computed once more.
template <int P, int V, class T>
int64_t convolve_blocks(const ConvArgs<T>& a, int64_t block) {
  const int64_t block_size = a.rows * a.run * LANES, out_stride = a.blocks * LANES;
  const auto at = [&](int64_t pixel, auto tile) __attribute__((always_inline)) {
    const T* runs[2];
    for (int r = 0; r < a.rows; r++) runs[r] = a.runs[r] + pixel * a.stride;
    tile(runs, a.rows, a.run, a.stride, a.weights + block * block_size, block_size,
         a.out + pixel * out_stride + block * LANES, out_stride);
  };
  for (; block + V <= a.blocks; block += V) {
    if (a.pixels >= P)
      for (int64_t pixel = 0; pixel < a.pixels; pixel += P)
        at(pixel < a.pixels - P ? pixel : a.pixels - P, conv_tile<P, V, T>);
    else
      for (int64_t pixel = 0; pixel < a.pixels; pixel++) at(pixel, conv_tile<1, V, T>);
  }
  return block;
}
