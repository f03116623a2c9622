// Checks the native 1-bit engine through its C interface, on random cases: every instruction set that can run here
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

#include <future>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bidiffsr_ops.h"

namespace {

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

// A call of bidiffsr_run_block without isa, threads, weights and outputs, and what it points to.
struct Case {
  bidiffsr_block b = {};
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
    return b.arrangement == BIDIFFSR_SHUFFLE ? 2 * side : b.arrangement == BIDIFFSR_UNSHUFFLE ? side / 2 : side;
  }
  int64_t out_rows() const { return b.batch * scaled(b.height); }
  int64_t out_channels() const { return pixels() * outputs() / (out_rows() * scaled(b.width)); }
};

std::string describe(const Case& c, int threads) {
  std::ostringstream text;
  text << "\n  batch " << c.b.batch << ", " << c.b.height << "x" << c.b.width << ", threads " << threads
       << ", sources of " << c.b.source_channels[0] << " and " << c.b.source_channels[1] << " channels, norm "
       << !!c.b.norm_scale << ", concatenate " << c.b.concatenate << ", arrangement " << c.b.arrangement << ", addend "
       << !!c.b.addend << ", residual " << !!c.b.residual;
  for (const bidiffsr_conv* conv = c.b.convs; conv < c.b.convs + c.b.conv_count; conv++) {
    text << "\n  kernel " << conv->kernel << ", " << conv->inputs << " -> " << conv->outputs << ", identity "
         << conv->identity << ", first alpha " << conv->alpha[0];
    for (const bidiffsr_segment* s = conv->segments; s < conv->segments + conv->segment_count; s++)
      text << "; " << s->count << " channels of source " << s->source << " from " << s->first << ", step " << s->step;
  }
  return text.str();
}

// Long rows are finished in several strips, high pictures fall into several bands; one pixel high or wide; and small.
void draw_size(Random& random, bidiffsr_block& b, bool deep) {
  const int kind = deep ? 4 : random(0, 5);
  b.height = kind == 0 ? 1 : kind == 1 ? random(9, 90) : kind == 2 ? random(1, 3) : random(1, deep ? 3 : 10);
  b.width = kind == 1 ? random(1, 4) : kind == 2 ? random(40, 140) : kind == 3 ? 1 : random(1, deep ? 3 : 12);
  if (b.arrangement == BIDIFFSR_UNSHUFFLE) b.height += b.height % 2, b.width += b.width % 2;
}

// One or two segments that make up the inputs; the sources grow to hold them. Behind a norm: the whole first source.
void draw_segments(Random& random, bidiffsr_block& b, bidiffsr_conv& conv, bool norm) {
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
  bidiffsr_conv& conv = c.b.convs[index];
  conv.kernel = random.coin() ? 3 : 1;
  conv.identity = integers || conv.inputs != conv.outputs ? BIDIFFSR_NONE : random(BIDIFFSR_NONE, BIDIFFSR_BEFORE);
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
float input(const bidiffsr_block& b, const bidiffsr_segment& s, int64_t pixel, int i) {
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
  c.b.arrangement = random.coin() ? random(BIDIFFSR_SHUFFLE, BIDIFFSR_UNSHUFFLE) : BIDIFFSR_PLAIN;
  c.b.concatenate = c.b.conv_count == 2 && random.coin();
  draw_size(random, c.b, deep);
  int outputs = random(1, deep ? 40 : 130);
  const int inputs = deep ? random(300, 1100) : random.coin() ? outputs : random(1, 130);
  for (int i = 0; i < c.b.conv_count; i++) {
    bidiffsr_conv& conv = c.b.convs[i];
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
  const bidiffsr_conv& conv = c.b.convs[index];
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

// Where value `o` of a pixel of the convolutions lies in the output.
int64_t arranged(const Case& c, int64_t pixel, int64_t o) {
  const int64_t y = pixel / c.b.width % c.b.height, x = pixel % c.b.width;
  int64_t out_y = y, out_x = x, channel = o;
  if (c.b.arrangement == BIDIFFSR_SHUFFLE) out_y = 2 * y + o / 2 % 2, out_x = 2 * x + o % 2, channel = o / 4;
  if (c.b.arrangement == BIDIFFSR_UNSHUFFLE) out_y = y / 2, out_x = x / 2, channel = 4 * o + y % 2 * 2 + x % 2;
  const int64_t row = c.image_of(pixel) * c.scaled(c.b.height) + out_y;
  return (row * c.scaled(c.b.width) + out_x) * c.out_channels() + channel;
}

Floats naive_block(const Case& c) {
  const int64_t half = c.b.convs[0].outputs, outputs = c.outputs();
  const Floats first = naive_conv(c, 0), second = c.b.conv_count == 2 ? naive_conv(c, 1) : Floats();
  Floats output(c.pixels() * outputs);
  for (int64_t pixel = 0; pixel < c.pixels(); pixel++)
    for (int64_t o = 0; o < outputs; o++) {
      float v = o < half ? first[pixel * half + o] : second[pixel * (outputs - half) + o - half];
      if (c.b.addend) v += c.b.addend[c.image_of(pixel) * outputs + o];
      if (c.b.residual) v += c.b.residual[pixel * outputs + o];
      if (c.b.conv_count == 2 && !c.b.concatenate) v += second[pixel * half + o];
      output[arranged(c, pixel, o)] = v;
    }
  return output;
}

std::vector<uint8_t> prepare(const bidiffsr_conv& conv, const std::vector<int8_t>& weight, int isa) {
  const int64_t bits = conv.kernel * conv.kernel * conv.inputs, row_bytes = (bits + 63) / 64 * 8;
  std::vector<uint8_t> signs(conv.outputs * row_bytes);
  for (int64_t o = 0; o < conv.outputs; o++)
    for (int64_t i = 0; i < bits; i++)
      if (weight[o * bits + i] > 0) signs[o * row_bytes + i / 8] |= uint8_t(1 << i % 8);
  std::vector<uint8_t> prepared(bidiffsr_prepared_bytes(isa, conv.outputs, conv.inputs, conv.kernel));
  check(bidiffsr_prepare(isa, signs.data(), row_bytes, conv.outputs, conv.inputs, conv.kernel, prepared.data()) == 0,
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
  Result result{Floats(c.pixels() * c.outputs(), NAN), Floats(c.out_rows() * 2 * c.out_channels(), NAN)};
  bidiffsr_block b = c.b;
  b.isa = isa, b.threads = threads;
  b.output = result.output.data(), b.moments = with_moments ? result.moments.data() : nullptr;
  std::vector<uint8_t> weights[2];
  for (int i = 0; i < b.conv_count; i++) {
    weights[i] = prepare(b.convs[i], c.signs[i], isa);
    b.convs[i].weights = weights[i].data();
  }
  check(bidiffsr_run_block(&b) == BIDIFFSR_OK, "run_block");
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

// ---- The passes around full-precision convolutions -----------------------------------------------------------------

float to_bfloat16(float x) {  // eight significant bits, to nearest even
  int exponent;
  const double fraction = frexp(x, &exponent);
  return float(ldexp(nearbyint(fraction * 256), exponent - 8));
}

Floats widen(const std::vector<uint16_t>& halves) {
  Floats values(halves.size());
  for (size_t i = 0; i < halves.size(); i++) {
    const uint32_t bits = uint32_t(halves[i]) << 16;
    memcpy(&values[i], &bits, 4);
  }
  return values;
}

struct Picture {
  int height, width, channels, first, last;  // rows first..last-1 are activated
  Floats x, scale, shift, bias, residual;
};

Picture draw_picture(Random& random) {
  Picture p;
  p.height = random(1, 12), p.width = random(8, 24), p.channels = random(1, 130);
  p.first = random(-5, p.height + 3), p.last = random(p.first + 1, p.height + 5);  // at times wholly outside
  p.x = random.reals(p.height * p.width * p.channels, -9, 9);
  p.scale = random.reals(p.channels, -12, 12), p.shift = random.reals(p.channels, -2, 2);
  p.bias = random.reals(p.channels, -2, 2), p.residual = random.reals(int64_t(p.x.size()), -2, 2);
  return p;
}

Floats activate_rows(const Picture& p, int isa, bool norm, bool bfloat16) {
  const int64_t row = p.width * p.channels, size = (p.last - p.first) * row;
  Floats wanted(size), out(bfloat16 ? 0 : size, NAN);
  std::vector<uint16_t> halves(bfloat16 ? size : 0, 0xffff);  // NaN as well
  for (int64_t i = 0; i < size; i++) {
    const int64_t at = p.first * row + i, c = i % p.channels;
    if (at < 0 || at >= int64_t(p.x.size())) continue;
    wanted[i] = norm ? silu(p.x[at] * p.scale[c] + p.shift[c]) : bfloat16 ? to_bfloat16(p.x[at]) : p.x[at];
  }
  check(bidiffsr_activate_rows(isa, p.x.data(), p.height, p.width, p.channels, norm ? p.scale.data() : nullptr,
                               norm ? p.shift.data() : nullptr, p.first, p.last,
                               bfloat16 ? static_cast<void*>(halves.data()) : out.data(), p.channels, bfloat16) == 0,
        "activate_rows");
  if (bfloat16) out = widen(halves);
  const double relative = !norm ? 0 : bfloat16 ? 0x1p-8 : 2e-5;  // exp inherits the rounding of its argument
  check_close("activate_rows", wanted, out, relative, norm ? 1e-35 : 0);  // SiLU(-90) is no normal float any more
  return out;
}

Result finish_rows(const Picture& p, int isa, bool bfloat16, bool with_residual) {
  Result result{Floats(p.x.size(), NAN), Floats(p.height * 2 * p.channels, NAN)};
  std::vector<uint16_t> halves(p.x.size());  // the upper halves of x, which lie behind the lower ones
  for (size_t i = 0; i < halves.size(); i++) memcpy(&halves[i], reinterpret_cast<const char*>(&p.x[i]) + 2, 2);
  Floats wanted = bfloat16 ? widen(halves) : p.x;
  for (size_t i = 0; i < wanted.size(); i++) {
    wanted[i] += p.bias[i % p.channels];
    if (with_residual) wanted[i] += p.residual[i];
  }
  const void* y = bfloat16 ? static_cast<const void*>(halves.data()) : p.x.data();
  for (float* moments : {static_cast<float*>(nullptr), result.moments.data()}) {
    check(bidiffsr_finish_rows(isa, y, bfloat16, p.height, p.width, p.channels, p.bias.data(),
                               with_residual ? p.residual.data() : nullptr, result.output.data(), moments) == 0,
          "finish_rows");
    check_close("finish_rows", wanted, result.output);
  }
  check_moments(wanted, p.height, p.width, p.channels, result.moments);
  return result;
}

// GroupNorm's coefficients from the moments, against mean and variance of the values themselves.
void check_norm(const Picture& p, const Floats& moments, int groups) {
  const int size = p.channels / groups;
  const double eps = 1e-5, count = double(p.height) * p.width * size;
  Floats scale(p.channels, NAN), shift(p.channels, NAN), wanted_scale, wanted_shift;
  bidiffsr_norm_coefficients(moments.data(), p.height, p.width, p.channels, groups, eps, p.scale.data(), p.bias.data(),
                             scale.data(), shift.data());
  std::vector<double> mean(groups), variance(groups);
  for (size_t i = 0; i < p.x.size(); i++) mean[i % p.channels / size] += p.x[i] / count;
  for (size_t i = 0; i < p.x.size(); i++) {
    const int group = int(i) % p.channels / size;
    variance[group] += (p.x[i] - mean[group]) * (p.x[i] - mean[group]) / count;
  }
  for (int c = 0; c < p.channels; c++) {
    const double slope = p.scale[c] / sqrt(variance[c / size] + eps);
    wanted_scale.push_back(float(slope)), wanted_shift.push_back(float(p.bias[c] - mean[c / size] * slope));
  }
  check_close("norm_coefficients: scale", wanted_scale, scale, 1e-4, 1e-5);
  check_close("norm_coefficients: shift", wanted_shift, shift, 1e-4, 1e-4);
}

void check_passes(Random& random, const std::vector<int>& isas) {
  const Picture p = draw_picture(random);
  std::vector<Result> portable;
  for (int isa : isas) try {
      std::vector<Result> all;
      for (int way = 0; way < 4; way++) {
        all.push_back({activate_rows(p, isa, way & 1, way & 2), {}});
        all.push_back(finish_rows(p, isa, way & 1, way & 2));
      }
      Floats moments(p.height * 2 * p.channels, NAN);
      check(bidiffsr_moments(isa, 3, p.x.data(), p.height, p.width, p.channels, moments.data()) == 0, "moments");
      check_moments(p.x, p.height, p.width, p.channels, moments);
      for (int groups : {1, p.channels % 4 ? p.channels : 4}) check_norm(p, moments, groups);
      all.push_back({moments, {}});
      if (portable.empty()) portable = all;
      check(all == portable, "other bytes than portable");
    } catch (const std::runtime_error& error) {
      std::ostringstream text;
      text << NAMES[isa] << ": " << error.what() << "\n  picture of " << p.height << "x" << p.width << "x"
           << p.channels << ", rows " << p.first << " to " << p.last;
      throw std::runtime_error(text.str());
    }
}

// ---- All of it -----------------------------------------------------------------------------------------------------

std::vector<int> supported() {
  check(bidiffsr_abi() == BIDIFFSR_ABI, "the header is not that of the library");
  check(!bidiffsr_supported(-1) && !bidiffsr_supported(BIDIFFSR_ISAS), "an unknown instruction set is supported");
  check(bidiffsr_supported(BIDIFFSR_PORTABLE), "portable is not supported");
  std::vector<int> isas;
  for (int isa = 0; isa < BIDIFFSR_ISAS; isa++) {
    bidiffsr_block block = {};
    block.isa = isa;
    if (bidiffsr_supported(isa))
      isas.push_back(isa);
    else
      check(bidiffsr_run_block(&block) == BIDIFFSR_UNSUPPORTED, "an instruction set that is missing was run");
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
      if (number % 4 == 0) check_passes(random, isas);
      if (number % 50 == 0)
        for (int isa : isas) check_callers(random, isa);
    }
    for (int isa : isas) printf("%s: %d cases pass\n", NAMES[isa], cases);
  } catch (const std::exception& error) {
    printf("case %d fails\n  %s\n", number, error.what());
    return 1;
  }
}
