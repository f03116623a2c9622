// The way over all outputs and pixels, by tiles of P pixels × V blocks of outputs: included by the files of instruction
// sets inside an anonymous namespace, behind BLOCK (outputs of a block), WORD_BYTES, and tile<P, V>, which counts one.

struct CountArgs {
  const uint8_t* const* runs;
  int rows;
  int64_t run, pixel_stride;
  const uint8_t* weights;
  int64_t blocks, pixels;
  uint16_t* counts;
};

// From `block` on, as many times V blocks as there are; returns the first block that is left. Where fewer than P pixels
// are left, some before them are counted once more.
template <int P, int V>
int64_t count_blocks(const CountArgs& a, int64_t block) {
  const int64_t block_bytes = a.rows * a.run * BLOCK * WORD_BYTES, stride = a.blocks * BLOCK;
  const auto at = [&](int64_t pixel, auto tile) __attribute__((always_inline)) {
    const uint8_t* runs[3];
    for (int r = 0; r < a.rows; r++) runs[r] = a.runs[r] + pixel * a.pixel_stride;
    tile(runs, a.rows, a.run, a.pixel_stride, a.weights + block * block_bytes, block_bytes,
         a.counts + pixel * stride + block * BLOCK, stride);
  };
  for (; block + V <= a.blocks; block += V) {
    if (a.pixels >= P)
      for (int64_t pixel = 0; pixel < a.pixels; pixel += P) at(pixel < a.pixels - P ? pixel : a.pixels - P, tile<P, V>);
    else
      for (int64_t pixel = 0; pixel < a.pixels; pixel++) at(pixel, tile<1, V>);
  }
  return block;
}
