// Checks the native 1-bit engine on random cases, operation by operation: every instruction set that can run here
// against loops as plain as `ops/reference.py`, and all of them, on one thread and on several, against each other byte
// by byte. A program of its own, so that sanitizers and emulated processors are within reach: every buffer that the
// engine sees is a piece of the heap of exactly the needed size, so AddressSanitizer notices a byte too far.
//
//   g++ -std=c++17 -O1 -g -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-psabi -pthread
//       -I bidiffsr_cli/ops/csrc tests/ops/check_kernels.cpp bidiffsr_cli/ops/csrc/*.cpp -o check_kernels
//   ./check_kernels [seed [cases]]
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <future>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "operations.h"

namespace {

using namespace bidiffsr;
using Floats = std::vector<float>;
const char* const NAMES[BIDIFFSR_ISAS] = {"portable", "avx2", "avx512", "neon"};

void check(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what);
}

// Without tolerances the values must be equal, where -0.0 equals 0.0; NaN, which outputs are filled with, never is.
void check_close(const char* what, const Floats& wanted, const Floats& got, double relative = 0, double absolute = 0) {
  check(wanted.size() == got.size(), std::string(what) + ": wrong size");
  for (size_t i = 0; i < wanted.size(); i++) {
    if (fabs(double(got[i]) - wanted[i]) <= relative * fabs(wanted[i]) + absolute) continue;
    char text[200];
    snprintf(text, sizeof text, "%s: value %zu of %zu is %.9g, not %.9g", what, i, wanted.size(), got[i], wanted[i]);
    check(false, text);
  }
}

bool same_bytes(const Floats& a, const Floats& b) {
  return a.size() == b.size() && (a.empty() || !memcmp(a.data(), b.data(), a.size() * sizeof(float)));
}

// Against sums in double precision; a float sum of n terms errs by at most n · 6e-8 of the sum of their sizes.
void check_moments(const Floats& map, int64_t rows, int64_t width, int64_t channels, const Floats& moments) {
  for (int64_t row = 0; row < rows; row++)
    for (int64_t c = 0; c < channels; c++) {
      double sum = 0, size = 0, square = 0;
      for (int64_t x = 0; x < width; x++) {
        const double value = map[(row * width + x) * channels + c];
        sum += value, size += fabs(value), square += value * value;
      }
      const float* got = &moments[row * 2 * channels + c];
      check_close("sum of a row", {float(sum)}, {got[0]}, 0, 1e-7 * double(width) * size);
      check_close("sum of a row's squares", {float(square)}, {got[channels]}, 0, 1e-7 * double(width) * square);
    }
}

float silu(float x) { return float(x / (1 + exp(-double(x)))); }

// Draws that are the same with every compiler, as the standard's distributions are not.
struct Random {
  std::mt19937_64 engine;

  int operator()(int low, int high) { return low + int(engine() % uint64_t(high - low + 1)); }  // both included
  bool coin() { return engine() >> 63; }
  float real(float low, float high) { return low + (high - low) * float(engine() >> 40) * 0x1p-24f; }

  Floats reals(int64_t count, float low, float high) {
    Floats values(count);
    for (float& value : values) value = real(low, high);
    return values;
  }

  // Multiples of 1/4 from -2 to 2, -0.0 among them: their sums are often exactly 0, where the sign's rule shows.
  Floats quarters(int64_t count) {
    Floats values(count);
    for (float& value : values) value = float((*this)(0, 8)) * (coin() ? 0.25f : -0.25f);
    return values;
  }
};

// ---- A block: its cases --------------------------------------------------------------------------------------------

// A call of run_block without isa, threads, weights and outputs, and what it points to.
struct Case {
  BlockCall b = {};
  std::vector<Floats> owned;
  std::vector<int8_t> signs[2];  // the convolutions' weights, outputs × kernel × kernel × inputs of +1 and -1

  Case() = default;
  Case(Case&&) = default;  // no copies, which would point into the original
  Case& operator=(Case&&) = default;

  float* own(Floats values) { return owned.emplace_back(std::move(values)).data(); }

  int64_t pixels() const { return int64_t(b.batch) * b.height * b.width; }
  int64_t image_of(int64_t pixel) const { return pixel / (int64_t(b.height) * b.width); }
  int outputs() const { return b.convs[0].outputs + (b.concatenate ? b.convs[1].outputs : 0); }
  int64_t scaled(int64_t side) const {
    return b.arrangement == BIDIFFSR_SHUFFLE ? 2 * side : halves() ? side / 2 : side;
  }
  bool halves() const { return b.arrangement == BIDIFFSR_UNSHUFFLE || b.arrangement == BIDIFFSR_STRIDED; }
  int64_t out_rows() const { return b.batch * scaled(b.height); }
  int64_t out_pixels() const { return out_rows() * scaled(b.width); }
  int64_t out_channels() const {
    return b.arrangement == BIDIFFSR_STRIDED ? outputs() : pixels() * outputs() / out_pixels();
  }
};

std::string describe(const Case& c, int threads) {
  std::ostringstream text;
  text << "\n  batch " << c.b.batch << ", " << c.b.height << "x" << c.b.width << ", threads " << threads
       << ", sources of " << c.b.source_channels[0] << " and " << c.b.source_channels[1] << " channels, norm "
       << !!c.b.norm_scale << ", concatenate " << c.b.concatenate << ", arrangement " << c.b.arrangement << ", addend "
       << !!c.b.addend << ", residual " << !!c.b.residual;
  for (const ConvCall* conv = c.b.convs; conv < c.b.convs + c.b.conv_count; conv++) {
    text << "\n  kernel " << conv->kernel << ", " << conv->inputs << " -> " << conv->outputs << ", identity "
         << conv->identity << ", first alpha " << conv->alpha[0];
    for (const bidiffsr_segment* s = conv->segments; s < conv->segments + conv->segment_count; s++)
      text << "; " << s->count << " channels of source " << s->source << " from " << s->first << ", step " << s->step;
  }
  return text.str();
}

// Long rows are finished in several strips, high pictures fall into several bands; one pixel high or wide; and small.
void draw_size(Random& random, Case& c, bool deep) {
  BlockCall& b = c.b;
  const int kind = deep ? 4 : random(0, 5);
  b.height = kind == 0 ? 1 : kind == 1 ? random(9, 90) : kind == 2 ? random(1, 3) : random(1, deep ? 3 : 10);
  b.width = kind == 1 ? random(1, 4) : kind == 2 ? random(40, 140) : kind == 3 ? 1 : random(1, deep ? 3 : 12);
  if (c.halves()) b.height += b.height % 2, b.width += b.width % 2;
}

// One or two segments that make up the inputs; the sources grow to hold them. Behind a norm: the whole first source.
void draw_segments(Random& random, BlockCall& b, ConvCall& conv, bool norm) {
  conv.segment_count = conv.inputs > 1 && !norm && random.coin() ? 2 : 1;
  const int cut = conv.segment_count == 2 ? random(1, conv.inputs - 1) : conv.inputs;
  for (int i = 0; i < conv.segment_count; i++) {
    bidiffsr_segment& s = conv.segments[i];
    s = {random(0, 1), random(0, 3), random(1, 2), i ? conv.inputs - cut : cut};
    if (norm) s.source = s.first = 0, s.step = 1;
    int& channels = b.source_channels[s.source];
    const int needed = s.first + (s.count - 1) * s.step + 1;
    if (channels < needed) channels = needed + (norm ? 0 : random(0, 2));
  }
}

// `integers`: the result is the convolution's sum itself. `opposed`: every sign differs from its weight's.
void draw_conv(Random& random, Case& c, int index, bool integers, bool opposed) {
  ConvCall& conv = c.b.convs[index];
  conv.kernel = random.coin() ? 3 : 1;
  const bool none = integers || conv.inputs != conv.outputs || c.b.arrangement == BIDIFFSR_STRIDED;
  conv.identity = none ? BIDIFFSR_NONE : random(BIDIFFSR_NONE, BIDIFFSR_BEFORE);
  c.signs[index].resize(int64_t(conv.outputs) * conv.kernel * conv.kernel * conv.inputs);
  for (int8_t& sign : c.signs[index]) sign = !opposed && random.coin() ? 1 : -1;
  Floats tar = random.quarters(conv.inputs);
  for (float& value : tar) value += opposed ? 9.f : 0.f;  // 0 turns -0.0, which may not be, into 0.0
  conv.tar = c.own(tar);
  conv.alpha = c.own(random.reals(conv.outputs, integers, 1));
  conv.taa_shift = c.own(random.reals(conv.outputs, integers ? 0 : -2, integers ? 0 : 2));
  conv.taa_slope = c.own(random.reals(conv.outputs, integers ? 1 : -1, 1));
  conv.taa_offset = c.own(random.reals(conv.outputs, integers ? 0 : -2, integers ? 0 : 2));
}

// Channel `i` of a segment as the convolution sees it.
float input(const BlockCall& b, const bidiffsr_segment& s, int64_t pixel, int i) {
  const int channel = s.first + i * s.step, channels = b.source_channels[s.source];
  const float x = b.source[s.source][pixel * channels + channel];
  const int64_t at = pixel / (b.height * b.width) * channels + channel;
  return b.norm_scale ? silu(x * b.norm_scale[at] + b.norm_shift[at]) : x;
}

// Behind a norm, draws values anew that lie so near to a change of sign that rounding could decide it.
void keep_off_zero(Random& random, const Case& c, float* source) {
  const int channels = c.b.source_channels[0];
  for (int64_t i = 0; i < c.pixels() * channels; i++)
    for (int k = 0; k < c.b.conv_count; k++)
      while (fabsf(input(c.b, c.b.convs[k].segments[0], i / channels, int(i % channels)) +
                   c.b.convs[k].tar[i % channels]) < 1e-3f)
        source[i] = random.real(6, 9), k = 0;  // SiLU is above 1.7 there
}

Case draw_case(Random& random) {
  Case c;
  const bool integers = random(0, 3) == 0, norm = !integers && random(0, 3) == 0;
  const bool deep = random(0, 15) == 0;  // so many inputs that counters of a byte must be emptied on the way
  c.b.batch = random(1, 2), c.b.conv_count = random(1, 2);
  c.b.arrangement = random.coin() ? random(BIDIFFSR_SHUFFLE, BIDIFFSR_STRIDED) : BIDIFFSR_PLAIN;
  c.b.concatenate = c.b.conv_count == 2 && random.coin();
  draw_size(random, c, deep);
  int outputs = random(1, deep ? 40 : 130);
  const int inputs = deep ? random(300, 1100) : random.coin() ? outputs : random(1, 130);
  for (int i = 0; i < c.b.conv_count; i++) {
    ConvCall& conv = c.b.convs[i];
    if (i && c.b.concatenate && random.coin()) outputs = random(1, 130);
    if (c.b.arrangement == BIDIFFSR_SHUFFLE) outputs = (outputs + 3) / 4 * 4;
    conv.outputs = outputs, conv.inputs = i && !norm && random.coin() ? random(1, 130) : inputs;
    draw_segments(random, c.b, conv, norm);
    draw_conv(random, c, i, integers, deep && random.coin());
  }
  for (int i = 1; i >= 0; i--) c.b.source[i] = c.own(random.quarters(c.pixels() * c.b.source_channels[i]));
  if (norm) {
    float* source = c.owned.back().data();
    c.b.norm_scale = c.own(random.reals(c.b.batch * inputs, 0.5f, 2));
    c.b.norm_shift = c.own(random.reals(c.b.batch * inputs, -1, 1));
    keep_off_zero(random, c, source);
  }
  if (c.b.arrangement == BIDIFFSR_PLAIN && !integers) {
    if (random.coin()) c.b.addend = c.own(random.reals(c.b.batch * c.outputs(), -2, 2));
    if (random.coin()) c.b.residual = c.own(random.reals(c.pixels() * c.outputs(), -2, 2));
  }
  return c;
}

// ---- A block: its definition, and the engine -----------------------------------------------------------------------

// TaA(alpha (Sign(u + tar) * Sign(w)) [+ u]) [+ u]: pixels × outputs.
Floats naive_conv(const Case& c, int index) {
  const ConvCall& conv = c.b.convs[index];
  const int64_t kernel = conv.kernel, inputs = conv.inputs, width = c.b.width;
  Floats u, y;
  std::vector<int8_t> signs;
  for (int64_t pixel = 0; pixel < c.pixels(); pixel++)
    for (const bidiffsr_segment* s = conv.segments; s < conv.segments + conv.segment_count; s++)
      for (int i = 0; i < s->count; i++) {
        u.push_back(input(c.b, *s, pixel, i));
        signs.push_back(u.back() + conv.tar[signs.size() % inputs] >= 0 ? 1 : -1);
      }
  for (int64_t pixel = 0; pixel < c.pixels(); pixel++)
    for (int64_t o = 0; o < conv.outputs; o++) {
      int n = 0;
      for (int64_t tap = 0; tap < kernel * kernel; tap++) {
        const int64_t dy = tap / kernel - kernel / 2, dx = tap % kernel - kernel / 2;
        const int64_t y_at = pixel / width % c.b.height + dy, x_at = pixel % width + dx;
        if (y_at < 0 || y_at >= c.b.height || x_at < 0 || x_at >= width) continue;
        const int8_t* seen = &signs[(pixel + dy * width + dx) * inputs];
        const int8_t* weight = &c.signs[index][(o * kernel * kernel + tap) * inputs];
        for (int64_t i = 0; i < inputs; i++) n += seen[i] * weight[i];
      }
      float v = conv.alpha[o] * float(n);
      if (conv.identity == BIDIFFSR_BEFORE) v += u[pixel * inputs + o];
      v += conv.taa_shift[o];
      v = (v > 0 ? v : v * conv.taa_slope[o]) + conv.taa_offset[o];
      y.push_back(conv.identity == BIDIFFSR_AFTER ? v + u[pixel * inputs + o] : v);
    }
  return y;
}

// Where value `o` of a pixel of the convolutions lies in the output; -1 if nowhere.
int64_t arranged(const Case& c, int64_t pixel, int64_t o) {
  const int64_t y = pixel / c.b.width % c.b.height, x = pixel % c.b.width;
  int64_t out_y = y, out_x = x, channel = o;
  if (c.b.arrangement == BIDIFFSR_SHUFFLE) out_y = 2 * y + o / 2 % 2, out_x = 2 * x + o % 2, channel = o / 4;
  if (c.b.arrangement == BIDIFFSR_UNSHUFFLE) out_y = y / 2, out_x = x / 2, channel = 4 * o + y % 2 * 2 + x % 2;
  if (c.b.arrangement == BIDIFFSR_STRIDED) {
    if (y % 2 || x % 2) return -1;
    out_y = y / 2, out_x = x / 2;
  }
  const int64_t row = c.image_of(pixel) * c.scaled(c.b.height) + out_y;
  return (row * c.scaled(c.b.width) + out_x) * c.out_channels() + channel;
}

Floats naive_block(const Case& c) {
  const int64_t half = c.b.convs[0].outputs, outputs = c.outputs();
  const Floats first = naive_conv(c, 0), second = c.b.conv_count == 2 ? naive_conv(c, 1) : Floats();
  Floats output(c.out_pixels() * c.out_channels());
  for (int64_t pixel = 0; pixel < c.pixels(); pixel++)
    for (int64_t o = 0; o < outputs; o++) {
      float v = o < half ? first[pixel * half + o] : second[pixel * (outputs - half) + o - half];
      if (c.b.addend) v += c.b.addend[c.image_of(pixel) * outputs + o];
      if (c.b.residual) v += c.b.residual[pixel * outputs + o];
      if (c.b.conv_count == 2 && !c.b.concatenate) v += second[pixel * half + o];
      if (const int64_t at = arranged(c, pixel, o); at >= 0) output[at] = v;
    }
  return output;
}

std::vector<uint8_t> prepare(const ConvCall& conv, const std::vector<int8_t>& weight, int isa) {
  const int64_t bits = conv.kernel * conv.kernel * conv.inputs, row_bytes = (bits + 63) / 64 * 8;
  std::vector<uint8_t> signs(conv.outputs * row_bytes);
  for (int64_t o = 0; o < conv.outputs; o++)
    for (int64_t i = 0; i < bits; i++)
      if (weight[o * bits + i] > 0) signs[o * row_bytes + i / 8] |= uint8_t(1 << i % 8);
  std::vector<uint8_t> prepared(prepared_bytes(isa, conv.outputs, conv.inputs, conv.kernel));
  check(bidiffsr::prepare(isa, signs.data(), row_bytes, conv.outputs, conv.inputs, conv.kernel, prepared.data()) == 0,
        "prepare");
  return prepared;
}

struct Result {
  Floats output, moments;
  bool operator==(const Result& other) const {
    return same_bytes(output, other.output) && same_bytes(moments, other.moments);
  }
};

Result run_block(const Case& c, int isa, int threads, bool with_moments = true) {
  Result result{Floats(c.out_pixels() * c.out_channels(), NAN), Floats(c.out_rows() * 2 * c.out_channels(), NAN)};
  BlockCall b = c.b;
  b.isa = isa, b.threads = threads;
  b.output = result.output.data(), b.moments = with_moments ? result.moments.data() : nullptr;
  std::vector<uint8_t> weights[2];
  for (int i = 0; i < b.conv_count; i++) {
    weights[i] = prepare(b.convs[i], c.signs[i], isa);
    b.convs[i].weights = weights[i].data();
  }
  check(bidiffsr::run_block(&b) == BIDIFFSR_OK, "run_block");
  return result;
}

void check_block(Random& random, const std::vector<int>& isas) {
  const Case c = draw_case(random);
  const int threads = random(1, 4);
  const Floats wanted = naive_block(c);
  const double tolerance = c.b.norm_scale ? 1e-5 : 0;  // SiLU is not rounded correctly; all else must be exact
  const Result portable = run_block(c, BIDIFFSR_PORTABLE, 1);
  for (int isa : isas) try {
      const Result result = run_block(c, isa, 1);
      check_close("output", wanted, result.output, tolerance, tolerance);
      check_moments(result.output, c.out_rows(), c.scaled(c.b.width), c.out_channels(), result.moments);
      check(result == portable, "other bytes than portable");
      check(result == run_block(c, isa, threads), "other bytes on several threads");
      check(same_bytes(result.output, run_block(c, isa, threads, false).output), "other bytes without moments");
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(std::string(NAMES[isa]) + ": " + error.what() + describe(c, threads));
    }
}

// Four callers at once, each with a block of several bands for three threads.
void check_callers(Random& random, int isa) {
  std::vector<std::future<void>> callers;
  for (int caller = 0; caller < 4; caller++) {
    Case c = draw_case(random);
    while (c.b.batch * c.b.height < 16) c = draw_case(random);
    callers.push_back(std::async(std::launch::async, [c = std::move(c), isa] {
      const Result wanted = run_block(c, isa, 1);
      for (int i = 0; i < 5; i++)
        check(run_block(c, isa, 3) == wanted, std::string(NAMES[isa]) + ": several callers at once" + describe(c, 3));
    }));
  }
  for (auto& caller : callers) caller.get();
}

// ---- Full-precision convolutions and attention ---------------------------------------------------------------------

float to_bfloat16(float x) {  // eight significant bits, to nearest even
  int exponent;
  const double fraction = frexp(x, &exponent);
  return float(ldexp(nearbyint(fraction * 256), exponent - 8));
}

std::vector<uint8_t> prepare_full(int isa, bool bfloat16, const Floats& weights, int outputs, int inputs, int kernel) {
  std::vector<uint8_t> prepared(prepared_full_bytes(isa, bfloat16, outputs, inputs, kernel));
  check(bidiffsr::prepare_full(isa, bfloat16, weights.data(), outputs, inputs, kernel, prepared.data()) == 0, "prepare_full");
  return prepared;
}

// Sums of products in float32 of `terms` values err by at most so much where those are at most 1, in any order.
double rounding(int64_t terms) { return 1e-7 * double(terms); }

// A call of run_full_conv without isa, threads, weights and outputs, and what it points to.
struct FullCase {
  FullConvCall c = {};
  int inputs = 0;
  std::vector<Floats> owned;
  Floats weights;  // outputs × kernel × kernel × inputs

  float* own(Floats values) { return owned.emplace_back(std::move(values)).data(); }
  int64_t pixels() const { return int64_t(c.batch) * c.height * c.width; }
};

FullCase draw_full_case(Random& random) {
  FullCase f;
  FullConvCall& c = f.c;
  c.batch = random(1, 2), c.kernel = random.coin() ? 3 : 1, c.bfloat16 = c.kernel == 1 && random.coin();
  const int kind = random(0, 3);  // narrow and of several bands, so wide that rows fall into strips, small
  c.height = kind == 0 ? random(9, 40) : random(1, 4), c.width = kind == 1 ? random(60, 200) : random(1, 14);
  c.unshuffle = random(0, 3) ? 0 : random(1, 2), c.shuffle = random(0, 3) ? 0 : random(1, 2);
  const int r = c.unshuffle ? c.unshuffle : 1;
  c.source_channels[0] = random(1, c.unshuffle ? 9 : 70);
  const int alike = c.source_channels[0];
  c.source_channels[1] = random.coin() ? (random.coin() ? alike : random(1, c.unshuffle ? 9 : 70)) : 0;
  f.inputs = (c.source_channels[0] + c.source_channels[1]) * r * r;
  c.outputs = random(1, 70) * (c.shuffle ? c.shuffle * c.shuffle : 1);
  for (int i = 0; i < 2; i++)
    if (c.source_channels[i]) c.source[i] = f.own(random.reals(f.pixels() * c.source_channels[i] * r * r, -1, 1));
  if (!c.unshuffle && !c.source_channels[1] && random.coin()) {
    c.norm_scale = f.own(random.reals(c.batch * f.inputs, 0.5f, 1));
    c.norm_shift = f.own(random.reals(c.batch * f.inputs, -0.2f, 0));
  } else {
    c.relu = !c.unshuffle && random.coin();
  }
  f.weights = random.reals(int64_t(c.outputs) * c.kernel * c.kernel * f.inputs, -1, 1);
  c.bias = f.own(random.reals(c.outputs, -1, 1));
  if (random.coin()) c.addend = f.own(random.reals(c.batch * c.outputs, -1, 1));
  if (!c.shuffle && random.coin()) c.residual = f.own(random.reals(f.pixels() * c.outputs, -1, 1));
  return f;
}

// What channel `i` of a pixel of the convolution's input is.
float full_input(const FullCase& f, int64_t image, int64_t y, int64_t x, int i) {
  const FullConvCall& c = f.c;
  const int r = c.unshuffle, each = r ? r * r : 1, first = c.source_channels[0] * each, source = i >= first;
  const int channels = c.source_channels[source], at = i - source * first;
  float value;
  if (r) {
    const int64_t row = ((image * channels + at / each) * c.height + y) * r + at % each / r;
    value = c.source[source][(row * c.width + x) * r + at % r];
  } else {
    value = c.source[source][((image * c.height + y) * c.width + x) * channels + at];
  }
  if (c.norm_scale) value = silu(value * c.norm_scale[image * channels + at] + c.norm_shift[image * channels + at]);
  if (c.relu) value = value > 0 ? value : 0;
  return c.bfloat16 ? to_bfloat16(value) : value;
}

Floats naive_full_conv(const FullCase& f) {
  const FullConvCall& c = f.c;
  Floats y(f.pixels() * c.outputs), u;
  for (int64_t pixel = 0; pixel < f.pixels(); pixel++)
    for (int i = 0; i < f.inputs; i++) {
      const int64_t row = pixel / c.width;
      u.push_back(full_input(f, row / c.height, row % c.height, pixel % c.width, i));
    }
  for (int64_t pixel = 0; pixel < f.pixels(); pixel++)
    for (int64_t o = 0; o < c.outputs; o++) {
      const int64_t row = pixel / c.width, image = row / c.height;
      double sum = c.bias[o] + (c.addend ? c.addend[image * c.outputs + o] : 0.f);
      for (int tap = 0; tap < c.kernel * c.kernel; tap++) {
        const int64_t dy = tap / c.kernel - c.kernel / 2, dx = tap % c.kernel - c.kernel / 2;
        const int64_t y_at = row % c.height + dy, x_at = pixel % c.width + dx;
        if (y_at < 0 || y_at >= c.height || x_at < 0 || x_at >= c.width) continue;
        for (int i = 0; i < f.inputs; i++) {
          const float weight = f.weights[((o * c.kernel * c.kernel) + tap) * f.inputs + i];
          sum += double(u[(pixel + dy * c.width + dx) * f.inputs + i]) * (c.bfloat16 ? to_bfloat16(weight) : weight);
        }
      }
      if (c.residual) sum += c.residual[pixel * c.outputs + o];
      const int64_t r = c.shuffle;
      const int64_t to = !r ? pixel * c.outputs + o
                            : (((image * (c.outputs / (r * r)) + o / (r * r)) * c.height + row % c.height) * r + o / r % r) * c.width * r +
                                  pixel % c.width * r + o % r;
      y[to] = float(sum);
    }
  return y;
}

Result run_full_conv(const FullCase& f, int isa, int threads) {
  FullConvCall c = f.c;
  Result result{Floats(f.pixels() * c.outputs, NAN), Floats(c.shuffle ? 0 : c.batch * c.height * 2 * c.outputs, NAN)};
  const std::vector<uint8_t> weights = prepare_full(isa, c.bfloat16, f.weights, c.outputs, f.inputs, c.kernel);
  c.isa = isa, c.threads = threads, c.weights = weights.data();
  c.output = result.output.data(), c.moments = c.shuffle ? nullptr : result.moments.data();
  check(bidiffsr::run_full_conv(&c) == BIDIFFSR_OK, "run_full_conv");
  return result;
}

// Instruction sets that multiply and add at once give the same bytes; a pair of bfloat16 is added in an own order.
void check_full_conv(Random& random, const std::vector<int>& isas) {
  const FullCase f = draw_full_case(random);
  const int64_t terms = f.inputs * f.c.kernel * f.c.kernel + 3;
  // behind SiLU some values are on the other side of the middle between two of bfloat16
  const bool winograd = f.c.kernel == 3;  // its transforms magnify rounding
  const double tolerance =
      f.c.bfloat16 && f.c.norm_scale ? 0.003 * sqrt(double(terms)) + 0.02 : rounding(terms) * (winograd ? 10 : 1);
  const Floats wanted = naive_full_conv(f);
  std::vector<Result> fused;
  for (int isa : isas) try {
      const Result result = run_full_conv(f, isa, 1);
      check_close("output", wanted, result.output, 0, tolerance);
      if (!f.c.shuffle) check_moments(result.output, f.c.batch * f.c.height, f.c.width, f.c.outputs, result.moments);
      check(result == run_full_conv(f, isa, 3), "other bytes on several threads");
      if (isa == BIDIFFSR_PORTABLE || f.c.bfloat16) continue;
      fused.push_back(result);
      check(result == fused[0], "other bytes than another instruction set");
    } catch (const std::runtime_error& error) {
      std::ostringstream text;
      text << NAMES[isa] << ": " << error.what() << "\n  full-precision convolution, bfloat16 " << f.c.bfloat16 << ", batch "
           << f.c.batch << ", " << f.c.height << "x" << f.c.width << ", kernel " << f.c.kernel << ", "
           << f.c.source_channels[0] << " and " << f.c.source_channels[1] << " -> " << f.c.outputs << ", unshuffle "
           << f.c.unshuffle << ", shuffle " << f.c.shuffle << ", norm " << !!f.c.norm_scale;
      throw std::runtime_error(text.str());
    }
}

void check_attention(Random& random, const std::vector<int>& isas) {
  AttentionCall a = {};
  a.batch = random(1, 2), a.height = random(1, 20), a.width = random(1, 40), a.channels = random(1, 40);
  const int64_t channels = a.channels, tokens = int64_t(a.height) * a.width, size = a.batch * tokens * channels;
  const Floats x = random.reals(size, -1, 1), scale = random.reals(a.batch * channels, 0, 2);
  const Floats shift = random.reals(a.batch * channels, -1, 1), bias = random.reals(channels, -1, 1);
  const Floats qkv = random.reals(3 * channels * channels, -1, 1), out = random.reals(channels * channels, -1, 1);
  Floats wanted(size);
  for (int64_t image = 0; image < a.batch; image++) {
    std::vector<double> made(tokens * 3 * channels), shares(tokens), mixed(channels);
    for (int64_t t = 0; t < tokens; t++)
      for (int64_t o = 0; o < 3 * channels; o++)
        for (int64_t i = 0; i < channels; i++)
          made[t * 3 * channels + o] += double(qkv[o * channels + i]) * (x[(image * tokens + t) * channels + i] * scale[image * channels + i] + shift[image * channels + i]);
    for (int64_t t = 0; t < tokens; t++) {
      double most = -1e30, total = 0;
      for (int64_t u = 0; u < tokens; u++) {
        shares[u] = 0;
        for (int64_t i = 0; i < channels; i++)
          shares[u] += made[t * 3 * channels + i] * made[u * 3 * channels + channels + i] / sqrt(double(channels));
        most = fmax(most, shares[u]);
      }
      for (double& share : shares) total += share = exp(share - most);
      for (int64_t i = 0; i < channels; i++) {
        mixed[i] = 0;
        for (int64_t u = 0; u < tokens; u++) mixed[i] += shares[u] / total * made[u * 3 * channels + 2 * channels + i];
      }
      for (int64_t o = 0; o < channels; o++) {
        const int64_t at = (image * tokens + t) * channels + o;
        double sum = x[at] + bias[o];
        for (int64_t i = 0; i < channels; i++) sum += out[o * channels + i] * mixed[i];
        wanted[at] = float(sum);
      }
    }
  }
  a.x = x.data(), a.norm_scale = scale.data(), a.norm_shift = shift.data(), a.bias = bias.data();
  std::vector<Result> fused;
  for (int isa : isas) try {
      const std::vector<uint8_t> first = prepare_full(isa, false, qkv, 3 * a.channels, a.channels, 1);
      const std::vector<uint8_t> last = prepare_full(isa, false, out, a.channels, a.channels, 1);
      a.isa = isa, a.qkv = first.data(), a.out = last.data();
      std::vector<Result> results;
      for (int threads : {1, 3}) {
        results.push_back({Floats(size, NAN), Floats(a.batch * a.height * 2 * channels, NAN)});
        a.threads = threads, a.output = results.back().output.data(), a.moments = results.back().moments.data();
        check(bidiffsr::run_attention(&a) == BIDIFFSR_OK, "run_attention");
      }
      check_close("attention", wanted, results[0].output, 0, 3e-5 * double(channels));
      check_moments(results[0].output, a.batch * a.height, a.width, channels, results[0].moments);
      check(results[0] == results[1], "other bytes on several threads");
      if (isa == BIDIFFSR_PORTABLE) continue;
      fused.push_back(results[0]);
      check(results[0] == fused[0], "other bytes than another instruction set");
    } catch (const std::runtime_error& error) {
      std::ostringstream text;
      text << NAMES[isa] << ": " << error.what() << "\n  attention, batch " << a.batch << ", " << a.height << "x" << a.width
           << "x" << a.channels;
      throw std::runtime_error(text.str());
    }
}

// ---- What GroupNorm needs ------------------------------------------------------------------------------------------

// GroupNorm's coefficients from the moments, against mean and variance of the values themselves.
void check_norm(Random& random, const std::vector<int>& isas) {
  const int height = random(1, 12), width = random(8, 24), channels = random(1, 130);
  const Floats x = random.reals(height * width * channels, -9, 9);
  const Floats gamma = random.reals(channels, -12, 12), beta = random.reals(channels, -2, 2);
  Floats portable;
  for (int isa : isas) {
    Floats moments(height * 2 * channels, NAN);
    check(row_moments(isa, 3, x.data(), height, width, channels, moments.data()) == 0, "moments");
    check_moments(x, height, width, channels, moments);
    if (portable.empty()) portable = moments;
    check(same_bytes(moments, portable), std::string(NAMES[isa]) + ": moments of other bytes than portable");
  }
  for (int groups : {1, channels % 4 ? channels : 4}) {
    const int size = channels / groups;
    const double eps = 1e-5, count = double(height) * width * size;
    Floats scale(channels, NAN), shift(channels, NAN), wanted_scale, wanted_shift;
    norm_coefficients(portable.data(), height, width, channels, groups, eps, gamma.data(), beta.data(),
                               scale.data(), shift.data());
    std::vector<double> mean(groups), variance(groups);
    for (size_t i = 0; i < x.size(); i++) mean[i % channels / size] += x[i] / count;
    for (size_t i = 0; i < x.size(); i++) {
      const int group = int(i) % channels / size;
      variance[group] += (x[i] - mean[group]) * (x[i] - mean[group]) / count;
    }
    for (int c = 0; c < channels; c++) {
      const double slope = gamma[c] / sqrt(variance[c / size] + eps);
      wanted_scale.push_back(float(slope)), wanted_shift.push_back(float(beta[c] - mean[c / size] * slope));
    }
    check_close("norm_coefficients: scale", wanted_scale, scale, 1e-4, 1e-5);
    check_close("norm_coefficients: shift", wanted_shift, shift, 1e-4, 1e-4);
  }
}

// ---- A network -----------------------------------------------------------------------------------------------------

// Planes in, a full-precision convolution, a normed binary one with time and shortcut, attention, a sum, maps joined and
// repeated, planes out: on several threads and at once the same bytes, its copies of everything its own, and what does
// not fit refused.
void check_network(Random& random, const std::vector<int>& isas) {
  const int channels = 8 * random(1, 4), r = random(1, 2), height = 2 * random(1, 9), width = 2 * random(1, 20), e = 4;
  const int repeat = random(1, 2);
  const Floats x = random.reals(2 * 3 * height * width, -1, 1);
  Result portable;
  for (int isa : isas) {
    Random drawn = random;  // the same weights for all
    std::vector<Floats> owned;
    const auto own = [&](int64_t count) { return owned.emplace_back(drawn.reals(count, -0.3f, 0.3f)).data(); };
    std::vector<uint8_t> signs(channels * ((9 * channels + 63) / 64 * 8));
    for (uint8_t& byte : signs) byte = uint8_t(drawn(0, 255));
    for (int o = 0; o < channels; o++)  // what fills up a row is zero
      for (int64_t bit = 9 * channels; bit < (9 * channels + 63) / 64 * 64; bit++)
        signs[o * (signs.size() / channels) + bit / 8] &= uint8_t(~(1 << bit % 8));
    bidiffsr_operation o[6] = {};
    for (bidiffsr_operation& operation : o) operation.source[1] = operation.residual = -1;
    o[0].kind = BIDIFFSR_FULL, o[0].kernel = 3, o[0].outputs = channels, o[0].unshuffle = r;
    o[0].weight = own(9 * 3 * r * r * channels), o[0].bias = own(channels);
    o[1].kind = BIDIFFSR_BINARY, o[1].source[0] = o[1].residual = 1, o[1].conv_count = 1;
    o[1].norm_groups = 4, o[1].norm_eps = 1e-5, o[1].norm_weight = own(channels), o[1].norm_bias = own(channels);
    o[1].time_weight = own(channels * e), o[1].time_bias = own(channels);
    bidiffsr_binary_conv& c = o[1].convs[0];
    c.signs = signs.data(), c.alpha = own(channels), c.tar = own(2 * channels), c.shift = own(5 * channels);
    c.slope = own(5 * channels), c.offset = own(5 * channels), c.tar_groups = 2, c.taa_groups = 5;
    c.inputs = c.outputs = channels, c.kernel = 3, c.segment_count = 1, c.segments[0] = {0, 0, 1, channels};
    o[2].kind = BIDIFFSR_ATTENTION, o[2].source[0] = 2, o[2].norm_groups = 2, o[2].norm_eps = 1e-5;
    o[2].norm_weight = own(channels), o[2].norm_bias = own(channels), o[2].weight = own(3 * channels * channels);
    o[2].second = own(channels * channels), o[2].bias = own(channels);
    o[3].kind = BIDIFFSR_ADD, o[3].source[0] = 3, o[3].source[1] = 1;
    o[4].kind = BIDIFFSR_JOIN, o[4].source[0] = 4, o[4].source[1] = 1, o[4].repeat = repeat;
    o[5].kind = BIDIFFSR_FULL, o[5].source[0] = 5, o[5].kernel = 1, o[5].outputs = 3 * r * r, o[5].shuffle = r;
    o[5].weight = own(2 * channels * 3 * r * r), o[5].bias = own(3 * r * r);
    bidiffsr_description d = {};
    d.isa = isa, d.total_steps = 100, d.input_count = 1, d.input_channels[0] = 3, d.input_planes = 1;
    d.embedding = {e, own(4 * e * e), own(4 * e), own(4 * e * e), own(e), 1};
    d.operation_count = 6, d.operations = o;
    bidiffsr_network* network = nullptr;
    check(bidiffsr_network_new(&d, &network) == BIDIFFSR_OK, "network_new");
    const auto refused = [&](auto change) {
      bidiffsr_operation changed[6];
      memcpy(changed, o, sizeof o);
      change(changed);
      bidiffsr_description other = d;
      other.operations = changed;
      bidiffsr_network* none = nullptr;
      check(bidiffsr_network_new(&other, &none) == BIDIFFSR_MISFIT && !none, "a network that does not fit was made");
    };
    refused([](bidiffsr_operation* o) { o[3].source[1] = 5; });
    refused([](bidiffsr_operation* o) { o[1].convs[0].segments[0].count--; });
    refused([](bidiffsr_operation* o) { o[1].norm_groups = 5; });
    refused([](bidiffsr_operation* o) { o[0].bfloat16 = 1; });
    refused([](bidiffsr_operation* o) { o[2].source[0] = 0; });
    refused([](bidiffsr_operation* o) { o[5].shuffle = 5; });
    refused([](bidiffsr_operation* o) { o[4].repeat = 0; });
    refused([](bidiffsr_operation* o) { o[4].source[0] = 0; });
    refused([](bidiffsr_operation* o) { o[1].arrangement = BIDIFFSR_STRIDED; });
    refused([](bidiffsr_operation* o) { o[0].relu = 1; });
    owned.clear(), signs.assign(signs.size(), 0);  // the network has copies
    const auto run = [&](int threads) {
      Floats output(x.size() * repeat * repeat, NAN);
      const int32_t t[2] = {99, 7};
      double seconds[6] = {-1, -1, -1, -1, -1, -1};
      bidiffsr_run run = {threads, 2, height, width, {x.data(), nullptr}, t, 99, output.data(), seconds};
      check(bidiffsr_network_run(network, &run) == BIDIFFSR_OK, "network_run");
      for (double taken : seconds) check(taken >= 0, "an operation was not timed");
      for (float value : output) check(value == value, "a value was not written");
      return output;
    };
    int32_t size[3];
    check(bidiffsr_network_size(network, height, width, size) == BIDIFFSR_OK && size[0] == 3 &&
              size[1] == height * repeat && size[2] == width * repeat, "network_size");
    if (r == 2) check(bidiffsr_network_size(network, height + 1, width, size) == BIDIFFSR_MISFIT, "an odd size was taken");
    const Floats result = run(1);
    std::future<Floats> others[] = {std::async(std::launch::async, run, 3), std::async(std::launch::async, run, 2)};
    for (auto& other : others) check(same_bytes(other.get(), result), std::string(NAMES[isa]) + ": network on threads");
    bidiffsr_network_delete(network);
    if (isa == BIDIFFSR_PORTABLE) portable.output = result;
    double different = 0;  // where sums differ by a last bit a sign may flip
    for (size_t i = 0; i < result.size(); i++) different += fabs(result[i] - portable.output[i]) > 1e-4;
    check(different <= 0.1 * double(result.size()), std::string(NAMES[isa]) + ": another network than portable's");
  }
}

// ---- A picture -----------------------------------------------------------------------------------------------------

// One convolution, or none at all.
struct Upsampler {
  bidiffsr_network* network = nullptr;

  Upsampler(Random& random, int isa, int scale) {
    if (random.coin()) return;
    const int outputs = 3 * scale * scale;
    const Floats weight = random.reals(outputs * 27, -0.02f, 0.02f), bias = random.reals(outputs, -0.1f, 0.1f);
    bidiffsr_operation o = {};
    o.kind = BIDIFFSR_FULL, o.source[1] = o.residual = -1, o.kernel = 3, o.outputs = outputs;
    o.unshuffle = 1, o.shuffle = scale, o.weight = weight.data(), o.bias = bias.data();
    bidiffsr_description d = {};
    d.isa = isa, d.total_steps = 1, d.input_count = 1, d.input_channels[0] = 3, d.input_planes = 1;
    d.operation_count = 1, d.operations = &o;
    check(bidiffsr_network_new(&d, &network) == BIDIFFSR_OK, "an upsampler");
  }

  ~Upsampler() { bidiffsr_network_delete(network); }
};

// Levels are the rounded floats; of grey the rounded mean.
void check_levels(const Upsampler& upsampler, const bidiffsr_diffusion& d, bidiffsr_enlargement e, const Floats& values) {
  const size_t size = values.size() / 3;
  const auto mean = [&](size_t i) { return (values[i] + values[size + i] + values[2 * size + i]) / 3; };
  std::vector<uint8_t> bytes(e.channels * size);
  e.output_kind = BIDIFFSR_LEVELS_8, e.output = bytes.data();
  check(bidiffsr_enlarge(nullptr, upsampler.network, &d, &e) == BIDIFFSR_OK, "enlarge to bytes");
  for (size_t i = 0; i < size; i++)
    for (int32_t channel = 0; channel < e.channels; channel++)
      check(bytes[e.channels * i + channel] == lrintf(255 * (e.channels == 1 ? mean(i) : values[channel * size + i])), "a level");
  std::vector<uint16_t> words(size);
  e.output_kind = BIDIFFSR_LEVELS_16, e.output = words.data();
  const int32_t status = bidiffsr_enlarge(nullptr, upsampler.network, &d, &e);
  check(status == (e.channels == 1 ? BIDIFFSR_OK : BIDIFFSR_MISFIT), "enlarge to words");
  for (size_t i = 0; i < size && e.channels == 1; i++) check(words[i] == lrintf(65535 * mean(i)), "a level of 16 bits");
}

// A window's network that is a formula: whatever the windows' order and the threads, the picture is the same.
void check_canvas(Random& random, int isa) {
  struct Caller {
    int64_t window;
    std::atomic<int> windows{0};
    int stop_at = -1;
  } caller;
  bidiffsr_enlargement e = {};
  bidiffsr_diffusion d = {};
  d.residual = d.detail = random.coin(), d.input_gain = random.coin(), d.up_clipped = random.coin();
  d.clips = random.coin(), d.clip_low = -0.5f, d.clip_high = 0.5f, d.condition_high = 1, d.residual_scale = 0.05f;
  if (d.residual && random.coin()) d.noise_by_detail = 0.03f, d.residual_by_detail = 0.002f;
  e.scale = random(1, 4), e.height = random(1, 30), e.width = random(0, 3) ? random(1, 30) : random(129, 140);
  const Upsampler upsampler(random, isa, e.scale);
  d.upsampler_radius = 1, d.first_by_mean = random.coin();
  const int high = e.scale * e.height, wide = e.scale * e.width;
  e.canvas_height = high + random(0, 7), e.canvas_width = wide + random(0, 7);
  const auto lay = [&](int32_t length, int32_t& tile, std::vector<int32_t>& starts) {
    const int32_t count = length < 20 ? 1 : random(1, 3);
    tile = count == 1 ? length : (length + (count - 1) * e.overlap + count - 1) / count;
    for (int32_t i = 0; i < count; i++) starts.push_back(count == 1 ? 0 : i * (length - tile) / (count - 1));
  };
  std::vector<int32_t> tops, lefts;
  e.overlap = random(0, 4);
  lay(e.canvas_height, e.tile_height, tops), lay(e.canvas_width, e.tile_width, lefts);
  e.row_count = int32_t(tops.size()), e.column_count = int32_t(lefts.size()), e.tops = tops.data(), e.lefts = lefts.data();
  e.sampler = random(BIDIFFSR_DDIM, BIDIFFSR_DPMPP_2M), e.step_count = random(1, 3);
  std::vector<bidiffsr_level> levels;
  for (int i = 0; i < e.step_count; i++) {
    const double phi = 1.57 * (e.step_count - i) / e.step_count;
    levels.push_back({100 * (e.step_count - i) - 1, i ? cos(phi) : 0, i ? sin(phi) : 1});
  }
  const int asked = e.step_count - d.first_by_mean;
  levels.push_back({-1, 1, 0});
  e.levels = levels.data(), e.eta = e.sampler == BIDIFFSR_DDIM && random.coin() ? 0.5 : 0, e.temperature = 1;
  e.channels = random.coin() ? 3 : 1, e.low_res_floats = random.coin(), e.match_low_frequencies = random.coin();
  const Floats low_res = random.reals(e.channels * e.height * e.width, 0, 1);
  std::vector<uint8_t> bytes;
  for (float value : low_res) bytes.push_back(uint8_t(255 * value));
  if (e.low_res_floats)
    e.low_res = low_res.data();
  else
    e.low_res = bytes.data();
  caller.window = 3 * int64_t(e.tile_height) * e.tile_width;
  e.context = &caller;
  e.seed = random.engine();
  e.predict = [](void* context, int32_t threads, const float* x_t, const float* condition, int32_t, float* prediction) {
    check(threads > 0, "a window without a thread");
    const int64_t count = static_cast<Caller*>(context)->window;
    for (int64_t i = 0; i < count; i++) prediction[i] = 0.3f * x_t[i] + 0.1f * condition[i] + 0.05f * x_t[count - 1 - i];
    return 0;
  };
  e.progress = [](void* context, int32_t windows) {
    Caller& caller = *static_cast<Caller*>(context);
    caller.windows += windows;
    return int32_t(caller.windows == caller.stop_at ? 77 : 0);
  };
  std::vector<int32_t> window_threads;
  for (size_t i = 0; i < tops.size() * lefts.size(); i++) window_threads.push_back(random(1, 3));
  e.window_threads = window_threads.data();
  Floats first;
  for (const auto& [threads, concurrent] : {std::pair<int, int>{1, 1}, {4, 3}, {2, 8}}) {
    Floats output(3 * high * wide, NAN);
    e.threads = threads, e.concurrent = concurrent, e.output = output.data(), caller.windows = 0;
    check(bidiffsr_enlarge(nullptr, upsampler.network, &d, &e) == BIDIFFSR_OK, "enlarge");
    check(caller.windows == e.row_count * e.column_count * asked, "a window is missing, or too many");
    for (float value : output) check(value >= 0 && value <= 1, "a value was not written, or is out of range");
    if (first.empty()) first = output;
    check(same_bytes(output, first), "other bytes on other threads");
  }
  check_levels(upsampler, d, e, first);
  if (upsampler.network) {
    caller.windows = caller.stop_at = 0;
    check(bidiffsr_enlarge(nullptr, upsampler.network, &d, &e) == 77, "progress could not stop an upsampler");
    bidiffsr_diffusion other = d;
    other.upsampler_radius = -1;
    check(bidiffsr_enlarge(nullptr, upsampler.network, &other, &e) == BIDIFFSR_MISFIT, "a radius below 0 was taken");
    bidiffsr_enlargement large = e;
    large.scale = e.scale + 1;
    check(bidiffsr_enlarge(nullptr, upsampler.network, &d, &large) == BIDIFFSR_MISFIT, "another scale was taken");
  }
  if (!asked) return;
  caller.windows = 0, caller.stop_at = 1;
  check(bidiffsr_enlarge(nullptr, upsampler.network, &d, &e) == 77, "progress could not stop it");
}

// ---- All of it -----------------------------------------------------------------------------------------------------

std::vector<int> supported() {
  check(bidiffsr_abi() == BIDIFFSR_ABI, "the header is not that of the library");
  check(!bidiffsr_supported(-1) && !bidiffsr_supported(BIDIFFSR_ISAS), "an unknown instruction set is supported");
  check(bidiffsr_supported(BIDIFFSR_PORTABLE), "portable is not supported");
  std::vector<int> isas;
  for (int isa = 0; isa < BIDIFFSR_ISAS; isa++) {
    BlockCall block = {};
    block.isa = isa;
    if (bidiffsr_supported(isa))
      isas.push_back(isa);
    else
      check(bidiffsr::run_block(&block) == BIDIFFSR_UNSUPPORTED, "an instruction set that is missing was run");
  }
  return isas;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long long seed = argc > 1 ? strtoull(argv[1], nullptr, 10) : 20240607;
  const int cases = argc > 2 ? atoi(argv[2]) : 300;
  printf("seed %llu\n", seed);
  fflush(stdout);  // a sanitizer ends the process without that
  int number = 0;
  try {
    const std::vector<int> isas = supported();
    for (; number < cases; number++) {
      Random random{std::mt19937_64(seed + number)};  // so case n is also case 0 of seed + n
      check_block(random, isas);
      if (number % 4 == 0) check_full_conv(random, isas), check_norm(random, isas);
      if (number % 16 == 0) check_attention(random, isas), check_network(random, isas), check_canvas(random, isas[size_t(random(0, int(isas.size()) - 1))]);
      if (number % 50 == 0)
        for (int isa : isas) check_callers(random, isa);
    }
    for (int isa : isas) printf("%s: %d cases pass\n", NAMES[isa], cases);
  } catch (const std::exception& error) {
    printf("case %d fails\n  %s\n", number, error.what());
    return 1;
  }
}
