// The way over all outputs and pixels, by tiles of P pixels × V blocks of outputs: included by the files of instruction
// sets inside an anonymous namespace, behind BLOCK (outputs of a block), WORD_BYTES, and tile<P, V>, which counts one.

struct CountArgs {
  const uint8_t* const* runs;
  int rows;
  int64_t run, pixel_bytes;
  const uint8_t* weights;
  int64_t blocks, pixels;
  int32_t* counts;
};

// From `block` on, as many times V blocks as there are; returns the first block that is left.
template <int P, int V>
int64_t count_blocks(const CountArgs& a, int64_t block) {
  const int64_t block_bytes = a.rows * a.run * BLOCK * WORD_BYTES, stride = a.blocks * BLOCK;
  for (; block + V <= a.blocks; block += V) {
    const uint8_t* weights = a.weights + block * block_bytes;
    for (int64_t pixel = 0; pixel < a.pixels;) {
      const uint8_t* at[3];
      for (int r = 0; r < a.rows; r++) at[r] = a.runs[r] + pixel * a.pixel_bytes;
      int32_t* counts = a.counts + pixel * stride + block * BLOCK;
      if (a.pixels - pixel >= P) {
        tile<P, V>(at, a.rows, a.run, a.pixel_bytes, weights, block_bytes, counts, stride);
        pixel += P;
      } else {
        tile<1, V>(at, a.rows, a.run, a.pixel_bytes, weights, block_bytes, counts, stride);
        pixel += 1;
      }
    }
  }
  return block;
}
