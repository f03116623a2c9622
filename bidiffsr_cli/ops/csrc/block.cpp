// A block of binary convolutions, row by row: the input row is made and its signs are packed into a ring of three rows,
// the convolution reads the ring, and the output row leaves with everything added that belongs to it. So a block reads
// its input and writes its output once; what lies between stays in the cache.
#include <stdint.h>
#include <string.h>

#include <memory>

#include "bands.h"
#include "kernels.h"

namespace bidiffsr {
namespace {

constexpr int64_t STRIP_COUNTS = 8192;  // counts that are finished together: 32 KB, about a first-level cache

// Weights as prepare leaves them: for each tap and output the number of set bits, then the blocks.
struct Prepared {
  const int32_t* tap_counts;  // kernel² × padded outputs
  const uint8_t* blocks;
  int64_t padded;

  Prepared(const Kernels& k, const void* prepared, int64_t outputs, int kernel) {
    padded = blocks_of(k, outputs) * k.block;
    tap_counts = static_cast<const int32_t*>(prepared);
    blocks = reinterpret_cast<const uint8_t*>(tap_counts + kernel * kernel * padded);
  }
};

// One convolution of the block on its way down a band of rows.
class Branch {
 public:
  Branch(const Kernels& k, const BlockCall& b, int index)
      : k(k), b(b), conv(b.convs[index]), weights(k, conv.weights, conv.outputs, conv.kernel) {
    pad = conv.kernel / 2;
    apart = b.arrangement == BIDIFFSR_STRIDED ? 2 : 1;
    depth = conv.kernel;
    pixel_bytes = words_of(conv.inputs) * k.word_bytes;
    row_bytes = (b.width + 2 * pad) * pixel_bytes;
    ring = scratch<uint8_t>(depth * row_bytes);
    memset(ring.get(), 0, depth * row_bytes);  // the columns beside the picture stay zero
    const bidiffsr_segment& s = conv.segments[0];
    direct = !b.norm_scale && conv.segment_count == 1 && s.step == 1;
    if (!direct) rows = scratch<float>(depth * b.width * conv.inputs);
    strip = STRIP_COUNTS / weights.padded < 4 ? 4 : STRIP_COUNTS / weights.padded / 4 * 4;
    counts = scratch<uint16_t>(strip * weights.padded);
    for (auto& bias : biases) bias = scratch<int32_t>(weights.padded);
  }

  void start(int64_t picture, int64_t first) {
    image = picture;
    next = first - pad;
    biased = -1;
  }

  // The outputs of row y, pixels × out_stride floats; `added` (may be null, may be out) and the sums as in FinishArgs.
  void row(int64_t y, float* out, int64_t out_stride, const float* addend, const float* added, float* sum, float* square) {
    while (next <= y + pad) fill(next++);
    set_biases(y);
    const uint8_t* runs[3];
    for (int i = 0; i < conv.kernel; i++) runs[i] = ring_row(y - pad + i);
    int64_t identity_stride = 0;
    const float* identity = conv.identity ? values(y, &identity_stride) : nullptr;
    FinishArgs f = {};
    f.counts_stride = weights.padded, f.channels = conv.outputs;
    f.alpha = conv.alpha, f.shift = conv.taa_shift, f.slope = conv.taa_slope, f.offset = conv.taa_offset;
    f.identity_stride = identity_stride, f.identity_first = conv.identity == BIDIFFSR_BEFORE, f.addend = addend;
    f.added_stride = f.out_stride = out_stride;
    f.sum = sum, f.square = square;
    const int64_t width = b.width / apart;
    for (int64_t x = 0; x < width; x += strip) {
      const int64_t pixels = width - x < strip ? width - x : strip;
      const uint8_t* at[3];
      for (int i = 0; i < conv.kernel; i++) at[i] = runs[i] + x * apart * pixel_bytes;
      k.count(at, conv.kernel, conv.kernel * words_of(conv.inputs), apart * pixel_bytes, weights.blocks,
              weights.padded / k.block, pixels, counts.get());
      for (int64_t first = 0, end; first < pixels; first = end) {  // runs of pixels with the same taps in the picture
        const int column = column_class((x + first) * apart);
        end = column == INNER ? (x + pixels == width && apart == 1 ? pixels - pad : pixels) : first + 1;
        f.counts = counts.get() + first * weights.padded;
        f.pixels = end - first;
        f.bias = biases[column].get();
        f.identity = identity ? identity + (x + first) * identity_stride : nullptr;
        f.added = added ? added + (x + first) * out_stride : nullptr;
        f.out = out + (x + first) * out_stride;
        k.finish(f);
      }
    }
  }

 private:
  enum { INNER = 0, LEFT = 1, RIGHT = 2, COLUMNS = 4 };  // LEFT + RIGHT where the picture is one pixel wide

  int column_class(int64_t x) const { return pad ? (x == 0) * LEFT + (x == b.width - 1) * RIGHT : INNER; }

  uint8_t* ring_row(int64_t y) { return ring.get() + (y + depth) % depth * row_bytes; }

  const float* source_row(const bidiffsr_segment& s, int64_t y) const {
    return b.source[s.source] + (image * b.height + y) * b.width * b.source_channels[s.source] + s.first;
  }

  // Row y of the convolution's input as floats, which `fill` made if it does not lie there anyway.
  const float* values(int64_t y, int64_t* stride) {
    const bidiffsr_segment& s = conv.segments[0];
    *stride = direct ? b.source_channels[s.source] : conv.inputs;
    return direct ? source_row(s, y) : rows.get() + (y + depth) % depth * b.width * conv.inputs;
  }

  void fill(int64_t y) {
    if (y < 0 || y >= b.height) {
      memset(ring_row(y), 0, row_bytes);
      return;
    }
    int64_t stride;
    const float* row = values(y, &stride);
    if (!direct) gather(y, const_cast<float*>(row));
    k.pack_row(row, stride, b.width, conv.inputs, conv.tar, ring_row(y) + pad * pixel_bytes);
  }

  void gather(int64_t y, float* row) {
    if (b.norm_scale) {
      const int64_t at = image * conv.inputs;
      k.activate(source_row(conv.segments[0], y), b.width, conv.inputs, b.norm_scale + at, b.norm_shift + at,
                 SILU, row, conv.inputs);
      return;
    }
    for (int i = 0; i < conv.segment_count; i++) {
      const bidiffsr_segment& s = conv.segments[i];
      const float* from = source_row(s, y);
      const int64_t stride = b.source_channels[s.source];
      for (int64_t x = 0; x < b.width; x++, from += stride) {
        float* to = row + x * conv.inputs;
        if (s.step == 2)
          for (int64_t c = 0; c < s.count; c++) to[c] = from[2 * c];
        else
          for (int64_t c = 0; c < s.count; c++) to[c] = from[c * s.step];
      }
      row += s.count;
    }
  }

  // Bits beside the picture are zero, that is -1, where the definition wants nothing: such a tap counted popcount(w)
  // differences among its channels. So alpha (channels · taps inside - 2 (count - those)) is what is wanted.
  void set_biases(int64_t y) {
    const int row = pad ? (y == 0) + 2 * (y == b.height - 1) : 0;
    if (row == biased) return;
    biased = row;
    for (int column = 0; column < COLUMNS; column++) {
      int32_t* bias = biases[column].get();
      for (int64_t o = 0; o < weights.padded; o++) bias[o] = 0;
      for (int ky = 0; ky < conv.kernel; ky++)
        for (int kx = 0; kx < conv.kernel; kx++) {
          const bool outside = pad && ((ky == 0 && row & 1) || (ky == 2 && row & 2) || (kx == 0 && column & LEFT) ||
                                       (kx == 2 && column & RIGHT));
          const int32_t* set = weights.tap_counts + (ky * conv.kernel + kx) * weights.padded;
          for (int64_t o = 0; o < weights.padded; o++) bias[o] += outside ? 2 * set[o] : conv.inputs;
        }
    }
  }

  const Kernels& k;
  const BlockCall& b;
  const ConvCall& conv;
  const Prepared weights;
  int pad, apart, biased = -1;  // `apart`: of the pixels whose outputs there are, in both directions
  int64_t depth, pixel_bytes, row_bytes, strip, image = 0, next = 0;
  bool direct;
  std::unique_ptr<uint8_t[]> ring;    // depth × (width + 2 pad) packed pixels
  std::unique_ptr<float[]> rows;      // depth × width × inputs, unless `direct`
  std::unique_ptr<uint16_t[]> counts;  // strip × padded outputs
  std::unique_ptr<int32_t[]> biases[COLUMNS];
};

// Bits [first, first + count) of a row, at most 32 of them, low ones first.
uint32_t bits_of(const uint8_t* row, int64_t first, int64_t count) {
  uint64_t found = 0;
  for (int64_t byte = first / 8; byte <= (first + count - 1) / 8; byte++)
    found |= uint64_t(row[byte]) << (8 * (byte - first / 8));
  return uint32_t((found >> (first % 8)) & ((uint64_t(1) << count) - 1));
}

// Two rows of C channels -> one of half the width and 4C channels.
void unshuffle_row(const float* upper, const float* lower, int64_t width, int64_t channels, float* out) {
  for (int64_t x = 0; x < width; x += 2, upper += 2 * channels, lower += 2 * channels, out += 4 * channels)
    for (int64_t c = 0; c < channels; c++) {
      out[4 * c] = upper[c], out[4 * c + 1] = upper[channels + c];
      out[4 * c + 2] = lower[c], out[4 * c + 3] = lower[channels + c];
    }
}

// One row of 4C channels -> two of twice the width and C channels.
void shuffle_row(const float* row, int64_t width, int64_t channels, float* upper, float* lower) {
  for (int64_t x = 0; x < width; x++, row += 4 * channels, upper += 2 * channels, lower += 2 * channels)
    for (int64_t c = 0; c < channels; c++) {
      upper[c] = row[4 * c], upper[channels + c] = row[4 * c + 1];
      lower[c] = row[4 * c + 2], lower[channels + c] = row[4 * c + 3];
    }
}

// A band of output rows (of input rows where they are shuffled), on one thread.
class Band {
 public:
  Band(const Kernels& k, const BlockCall& b) : k(k), b(b), first(k, b, 0) {
    if (b.conv_count == 2) second.reset(new Branch(k, b, 1));
    channels = b.convs[0].outputs + (b.concatenate ? b.convs[1].outputs : 0);
    if (b.arrangement == BIDIFFSR_SHUFFLE || b.arrangement == BIDIFFSR_UNSHUFFLE) made = scratch<float>(2 * b.width * channels);
  }

  void run(int64_t image, int64_t begin, int64_t end) {
    first.start(image, begin);
    if (second) second->start(image, begin);
    for (int64_t y = begin; y < end; y++) {
      if (b.arrangement == BIDIFFSR_PLAIN)
        plain(image, y);
      else if (b.arrangement == BIDIFFSR_STRIDED)
        strided(image, y);
      else if (b.arrangement == BIDIFFSR_UNSHUFFLE)
        unshuffle(image, y);
      else
        shuffle(image, y);
    }
  }

 private:
  // Row y of the convolutions, with all that is added.
  void row(int64_t y, float* out, const float* addend, const float* residual, float* sum, float* square) {
    if (!second) {
      first.row(y, out, channels, addend, residual, sum, square);
    } else if (b.concatenate) {
      const int64_t half = b.convs[0].outputs;
      first.row(y, out, channels, addend, residual, sum, square);
      second->row(y, out + half, channels, addend ? addend + half : nullptr, residual ? residual + half : nullptr,
                  sum ? sum + half : nullptr, square ? square + half : nullptr);
    } else {
      first.row(y, out, channels, addend, residual, nullptr, nullptr);
      second->row(y, out, channels, nullptr, out, sum, square);
    }
  }

  void plain(int64_t image, int64_t y) {
    const int64_t at = image * b.height + y;
    float* sum = sums(at, channels);
    row(y, b.output + at * b.width * channels, b.addend ? b.addend + image * channels : nullptr,
        b.residual ? b.residual + at * b.width * channels : nullptr, sum, sum ? sum + channels : nullptr);
  }

  void strided(int64_t image, int64_t y) {
    if (y % 2) return;
    const int64_t at = image * (b.height / 2) + y / 2;
    float* sum = sums(at, channels);
    row(y, b.output + at * (b.width / 2) * channels, nullptr, nullptr, sum, sum ? sum + channels : nullptr);
  }

  void unshuffle(int64_t image, int64_t y) {
    float* half = made.get() + y % 2 * b.width * channels;
    row(y, half, nullptr, nullptr, nullptr, nullptr);
    if (y % 2 == 0) return;
    const int64_t at = image * (b.height / 2) + y / 2;
    float* out = b.output + at * (b.width / 2) * (4 * channels);
    unshuffle_row(made.get(), half, b.width, channels, out);
    finish_row(at, out, b.width / 2, 4 * channels);
  }

  void shuffle(int64_t image, int64_t y) {
    row(y, made.get(), nullptr, nullptr, nullptr, nullptr);
    const int64_t at = image * 2 * b.height + 2 * y, row_floats = 2 * b.width * (channels / 4);
    float* out = b.output + at * row_floats;
    shuffle_row(made.get(), b.width, channels / 4, out, out + row_floats);
    finish_row(at, out, 2 * b.width, channels / 4);
    finish_row(at + 1, out + row_floats, 2 * b.width, channels / 4);
  }

  void finish_row(int64_t at, const float* out, int64_t width, int64_t count) {
    if (float* sum = sums(at, count)) k.moments(out, width, count, sum, sum + count);
  }

  // Where the sums of output row `at` go, set to zero; null where they are not wanted.
  float* sums(int64_t at, int64_t count) {
    if (!b.moments) return nullptr;
    float* sum = b.moments + at * 2 * count;
    memset(sum, 0, 2 * count * sizeof(float));
    return sum;
  }

  const Kernels& k;
  const BlockCall& b;
  Branch first;
  std::unique_ptr<Branch> second;
  int64_t channels;
  std::unique_ptr<float[]> made;  // two rows that are shuffled
};

}  // namespace

int64_t prepared_bytes(int32_t isa, int32_t outputs, int32_t inputs, int32_t kernel) {
  const Kernels* k = kernels(isa);
  if (!k) return 0;
  const int64_t padded = blocks_of(*k, outputs) * k->block;
  return kernel * kernel * padded * (4 + words_of(inputs) * k->word_bytes);
}

int32_t prepare(int32_t isa, const uint8_t* signs, int64_t row_bytes, int32_t outputs, int32_t inputs,
                         int32_t kernel, void* prepared) {
  const Kernels* k = kernels(isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  const int64_t taps = kernel * kernel, words = words_of(inputs), padded = blocks_of(*k, outputs) * k->block;
  if (taps * inputs > UINT16_MAX) return BIDIFFSR_MISFIT;  // more than can be counted
  int32_t* tap_counts = static_cast<int32_t*>(prepared);
  uint8_t* out = reinterpret_cast<uint8_t*>(tap_counts + taps * padded);
  memset(tap_counts, 0, taps * padded * sizeof(int32_t));
  for (int64_t block = 0; block < padded; block += k->block)
    for (int64_t tap = 0; tap < taps; tap++)
      for (int64_t word = 0; word < words; word++, out += k->word_bytes * k->block) {
        uint32_t column[64] = {};
        for (int64_t o = 0; o < k->block && block + o < outputs; o++) {
          const int64_t left = inputs - word * 32;
          column[o] = bits_of(signs + (block + o) * row_bytes, tap * inputs + word * 32, left < 32 ? left : 32);
          tap_counts[tap * padded + block + o] += __builtin_popcount(column[o]);
        }
        k->store_weights(column, out);
      }
  return BIDIFFSR_OK;
}

int32_t run_block(const BlockCall* block) {
  const Kernels* k = kernels(block->isa);
  if (!k) return BIDIFFSR_UNSUPPORTED;
  return in_bands(block->threads, block->batch, block->height, [&] { return Band(*k, *block); });
}

}  // namespace bidiffsr
