// A picture's whole way: what is known of it beforehand, the sampler on the canvas, the windows that the network looks
// through, and how their predictions are blended. Definitions: `diffusion/` and `tiling.py`.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "bands.h"
#include "kernels.h"

namespace bidiffsr {
namespace {

constexpr int64_t ROWS = 128, COLUMNS = 1024;  // of the canvas, the most that is one task
constexpr int64_t PART = 128;  // sides of the parts of the small picture that an upsampler sees, as in `upsampling.py`
constexpr double PI = 3.14159265358979323846;
constexpr double MOST_EXTRAPOLATION = 1;  // by DPM-Solver++, as in `samplers.py`

using Floats = std::vector<float>;
using Field = std::unique_ptr<float[]>;  // of the canvas, filled by several threads

struct Stopped {
  int32_t status;
};

struct Part {
  int64_t top, left, height, width;
};

// Calls work(part) for all parts of a height×width canvas, on several threads.
template <class Work>
void over_parts(int threads, int64_t height, int64_t width, const Work& work) {
  const int64_t across = (width + COLUMNS - 1) / COLUMNS;
  parallel(threads, (height + ROWS - 1) / ROWS * across, [&](int64_t task) {
    const int64_t top = task / across * ROWS, left = task % across * COLUMNS;
    const int64_t rows = height - top, columns = width - left;
    work(Part{top, left, rows < ROWS ? rows : ROWS, columns < COLUMNS ? columns : COLUMNS});
  });
}

// The place that is nearest to one of a line of so many.
int64_t inside(int64_t at, int64_t length) { return at < 0 ? 0 : at < length ? at : length - 1; }

// ---- up(LR), and what is told from it ------------------------------------------------------------------------------

// Bicubic interpolation of one dimension with a = -0.75: which four pixels of the small picture a place is made of.
struct Taps {
  int64_t place;
  int64_t at[4];
  float weight[4];

  Taps(int64_t place, int64_t scale, int64_t length) : place(place) {
    constexpr float A = -0.75f;
    const auto near = [](float x) { return ((A + 2) * x - (A + 3)) * x * x + 1; };
    const auto far = [](float x) { return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A; };
    const float source = (float(place % scale) + 0.5f) / float(scale) - 0.5f, below = floorf(source), t = source - below;
    const float weights[4] = {far(t + 1), near(t), near(1 - t), far(2 - t)};
    for (int i = 0; i < 4; i++) {
      const int64_t pixel = place / scale + int64_t(below) - 1 + i;
      at[i] = inside(pixel, length);
      weight[i] = weights[i];
    }
  }
};

// Bicubic interpolation is computed where it is looked at; what an upsampler makes takes too long for that, and is kept.
class Enlarged {
 public:
  Enlarged(const bidiffsr_diffusion& d, const bidiffsr_enlargement& e) : d(d), e(e) {
    const int64_t count = int64_t(e.channels) * e.height * e.width;
    low_res.resize(count);
    for (int64_t i = 0; i < count; i++)
      low_res[i] = e.low_res_floats ? static_cast<const float*>(e.low_res)[i] : static_cast<const uint8_t*>(e.low_res)[i] / 255.f;
    const int64_t height = int64_t(e.scale) * e.height, width = int64_t(e.scale) * e.width;
    const bool mirror = !d.residual && e.canvas_height < 2 * height && e.canvas_width < 2 * width;
    rows = taps(e.canvas_height, height, e.height, mirror), columns = taps(e.canvas_width, width, e.width, mirror);
  }

  // A plane of the small picture, height×width in [0, 1]; of grey all three are one.
  const float* small(int64_t plane) const { return low_res.data() + (e.channels == 1 ? 0 : plane) * e.height * e.width; }

  // 3×height×width of the canvas; beyond the canvas its edge is repeated.
  void crop(int64_t top, int64_t left, int64_t height, int64_t width, float* out) const {
    if (!whole) {
      interpolate(top, left, height, width, out);
      clip(out, 3 * height * width);
      return;
    }
    const int64_t wide = int64_t(e.scale) * e.width, high = int64_t(e.scale) * e.height;
    for (int64_t plane = 0; plane < 3; plane++)
      for (int64_t y = 0; y < height; y++) {
        const float* from = whole.get() + (plane * high + row(top + y).place) * wide;
        for (int64_t x = 0; x < width; x++) *out++ = from[at(columns, left + x).place];
      }
  }

  // Likewise by bicubic interpolation, not clipped.
  void interpolate(int64_t top, int64_t left, int64_t height, int64_t width, float* out) const {
    int64_t first = e.height, last = -1;
    for (int64_t y = 0; y < height; y++)
      for (int64_t at : row(top + y).at) first = at < first ? at : first, last = at > last ? at : last;
    std::vector<Taps> across;
    for (int64_t x = 0; x < width; x++) across.push_back(at(columns, left + x));
    Floats half((last - first + 1) * width);  // small rows, enlarged in their own direction
    for (int64_t plane = 0; plane < 3; plane++, out += height * width) {
      for (int64_t y = first; y <= last; y++) {
        const float* from = small(plane) + y * e.width;
        float* to = half.data() + (y - first) * width;
        for (int64_t x = 0; x < width; x++) {
          const Taps& t = across[x];
          to[x] = from[t.at[0]] * t.weight[0] + from[t.at[1]] * t.weight[1] + from[t.at[2]] * t.weight[2] +
                  from[t.at[3]] * t.weight[3];
        }
      }
      for (int64_t y = 0; y < height; y++) {
        const Taps& t = row(top + y);
        const float* from[4];
        for (int i = 0; i < 4; i++) from[i] = half.data() + (t.at[i] - first) * width;
        float* to = out + y * width;
        for (int64_t x = 0; x < width; x++)
          to[x] = from[0][x] * t.weight[0] + from[1][x] * t.weight[1] + from[2][x] * t.weight[2] + from[3][x] * t.weight[3];
      }
    }
  }

  // Clips values if the model says so.
  void clip(float* values, int64_t count) const {
    for (int64_t i = 0; d.up_clipped && i < count; i++) values[i] = values[i] < 0 ? 0 : values[i] > 1 ? 1 : values[i];
  }

  // Takes the whole picture, 3×(scale height)×(scale width), for what there is from now on. The small one is given up where
  // nobody asks for it any more.
  void keep(Field made) {
    whole = std::move(made);
    if (!e.match_low_frequencies) Floats().swap(low_res);
  }

 private:
  static std::vector<Taps> taps(int64_t length, int64_t picture, int64_t small, bool mirror) {
    std::vector<Taps> all;
    for (int64_t i = 0; i < length; i++)
      all.emplace_back(i < picture ? i : mirror ? 2 * (picture - 1) - i : picture - 1, picture / small, small);
    return all;
  }

  static const Taps& at(const std::vector<Taps>& taps, int64_t i) {
    return taps[inside(i, int64_t(taps.size()))];
  }

  const Taps& row(int64_t y) const { return at(rows, y); }

  const bidiffsr_diffusion& d;
  const bidiffsr_enlargement& e;
  Floats low_res;
  std::vector<Taps> rows, columns;
  Field whole;  // 3×(scale height)×(scale width), where there is an upsampler
};

// A normalized Gaussian of radius floor(3 sigma), sigma = 0.75 scale.
struct Gaussian {
  int64_t radius;
  Floats kernel;

  explicit Gaussian(int64_t scale) : radius(int64_t(floor(3 * 0.75 * double(scale)))) {
    double sum = 0;
    std::vector<double> values;
    for (int64_t i = -radius; i <= radius; i++) sum += values.emplace_back(exp(-0.5 * pow(double(i) / (0.75 * double(scale)), 2)));
    for (double value : values) kernel.push_back(float(value / sum));
  }
};

// Sums of 2r+1 neighbours in both directions, weighted where there is a kernel: (height+2r)×(width+2r) -> height×width.
template <class T>
void separable(const T* x, int64_t height, int64_t width, int64_t r, const float* kernel, T* out) {
  const int64_t stride = width + 2 * r;
  std::vector<T> row(stride);
  for (int64_t y = 0; y < height; y++, out += width) {
    for (T& value : row) value = 0;
    for (int64_t i = 0; i <= 2 * r; i++) {
      const T* from = x + (y + i) * stride;
      const T weight = kernel ? T(kernel[i]) : T(1);
      for (int64_t j = 0; j < stride; j++) row[j] += from[j] * weight;
    }
    for (int64_t j = 0; j < width; j++) out[j] = 0;
    for (int64_t i = 0; i <= 2 * r; i++) {
      const T weight = kernel ? T(kernel[i]) : T(1);
      for (int64_t j = 0; j < width; j++) out[j] += row[i + j] * weight;
    }
  }
}

// What a picture is known to be like, as far as the diffusion asks.
class Knowledge {
 public:
  Knowledge(const bidiffsr_diffusion& d, const bidiffsr_enlargement& e, const bidiffsr_network* upsampler)
      : up(d, e), d(d), e(e), gaussian(e.scale), box(2 * e.scale) {
    if (upsampler) up.keep(upsampled(*upsampler));
  }

  // The condition of a window: up(LR) mapped to its range, and what the Gaussian takes away.
  void condition(int64_t top, int64_t left, int64_t height, int64_t width, float* out) const {
    const int64_t r = d.detail ? gaussian.radius : 0, size = height * width;
    const Floats around = crop(top, left, height, width, r);
    for (int64_t plane = 0; plane < 3; plane++)
      for (int64_t y = 0; y < height; y++) {
        const float* from = around.data() + (plane * (height + 2 * r) + y + r) * (width + 2 * r) + r;
        float* to = out + plane * size + y * width;
        for (int64_t x = 0; x < width; x++) to[x] = from[x] * (d.condition_high - d.condition_low) + d.condition_low;
      }
    if (!d.detail) return;
    detail(around, height, width, out + 3 * size);
    for (int64_t i = 3 * size; i < 6 * size; i++) out[i] /= d.residual_scale;
  }

  // By how much noise counts in a part of the canvas: √(deviation of grey around / noise_by_detail), at most 1. In double
  // precision, as float32 leaves of a uniform picture's variance what makes a tenth of the noise.
  void noise_gain(const Part& part, float* out) const {
    const int64_t height = part.height, width = part.width;
    const Floats around = crop(part.top, part.left, height, width, box);
    const int64_t all = (height + 2 * box) * (width + 2 * box), size = height * width;
    std::vector<double> grey(all), square(all), mean(size), mean_square(size);
    for (int64_t i = 0; i < all; i++) {
      grey[i] = double((around[i] + around[all + i] + around[2 * all + i]) / 3);
      square[i] = grey[i] * grey[i];
    }
    separable<double>(grey.data(), height, width, box, nullptr, mean.data());
    separable<double>(square.data(), height, width, box, nullptr, mean_square.data());
    const double count = double((2 * box + 1) * (2 * box + 1));
    for (int64_t i = 0; i < size; i++) {
      const double variance = mean_square[i] / count - mean[i] / count * (mean[i] / count);
      const double gain = sqrt(variance > 0 ? variance : 0) / double(d.noise_by_detail);
      out[i] = float(sqrt(gain < 1 ? gain : 1));
    }
  }

  // By how much the residual counts: root mean square of the detail around / residual_by_detail, at most 1.
  void residual_gain(const Part& part, float* out) const {
    const int64_t height = part.height, width = part.width, size = height * width;
    const int64_t high = height + 2 * box, wide = width + 2 * box;
    Floats power(high * wide), sharp(3 * high * wide);
    detail(crop(part.top - box, part.left - box, high, wide, gaussian.radius), high, wide, sharp.data());
    for (int64_t i = 0; i < high * wide; i++) {
      const float a = sharp[i], b = sharp[high * wide + i], c = sharp[2 * high * wide + i];
      power[i] = (a * a + b * b + c * c) / 3;
    }
    separable<float>(power.data(), height, width, box, nullptr, out);
    const float count = float((2 * box + 1) * (2 * box + 1));
    for (int64_t i = 0; i < size; i++) {
      const float gain = sqrtf(out[i] / count) / d.residual_by_detail;
      out[i] = gain < 1 ? gain : 1;
    }
  }

  Enlarged up;

 private:
  // The whole picture by an upsampler, part by part: where a part begins may change the last bits, so no machine chooses it.
  Field upsampled(const bidiffsr_network& upsampler) const {
    const int64_t across = (e.width + PART - 1) / PART, parts = (e.height + PART - 1) / PART * across;
    const int32_t at_once = int32_t(parts < e.concurrent ? parts : e.concurrent);
    std::atomic<int32_t> failed{BIDIFFSR_OK};
    Field whole = scratch<float>(3 * int64_t(e.scale) * e.height * e.scale * e.width);
    parallel(at_once, parts, [&](int64_t task) {
      const int64_t top = task / across * PART, left = task % across * PART;
      const int64_t high = e.height - top, wide = e.width - left;
      if (failed != BIDIFFSR_OK) return;
      const Part part = {top, left, high < PART ? high : PART, wide < PART ? wide : PART};
      const int32_t status = upsample(upsampler, e.threads / at_once, part, whole.get());
      if (status != BIDIFFSR_OK) failed = status;
    });
    if (failed != BIDIFFSR_OK) throw Stopped{failed};
    return whole;
  }

  // One part of the small picture, beyond which its edge is repeated. What is added goes by the detail, as the residual.
  int32_t upsample(const bidiffsr_network& upsampler, int32_t threads, const Part& part, float* whole) const {
    const int64_t r = d.upsampler_radius, s = e.scale, high = part.height + 2 * r, wide = part.width + 2 * r;
    const Part made = {s * part.top, s * part.left, s * part.height, s * part.width};
    const int64_t area = made.height * made.width;
    Floats around(3 * high * wide), added(3 * s * high * s * wide), values(3 * area), gain(area, 1.f);
    float* to = around.data();
    for (int64_t plane = 0; plane < 3; plane++)
      for (int64_t y = part.top - r; y < part.top + part.height + r; y++)
        for (int64_t x = part.left - r; x < part.left + part.width + r; x++)
          *to++ = up.small(plane)[inside(y, e.height) * e.width + inside(x, e.width)];
    const int32_t t = 0;
    const bidiffsr_run run = {threads, 1, int32_t(high), int32_t(wide), {around.data(), nullptr}, &t, t, added.data(), nullptr};
    const int32_t status = bidiffsr_network_run(&upsampler, &run);
    if (status != BIDIFFSR_OK) return status;
    if (d.residual_by_detail > 0) residual_gain(made, gain.data());
    up.interpolate(made.top, made.left, made.height, made.width, values.data());
    float sum = 0;  // of nothing but zeros, unless a value is no number
    for (int64_t plane = 0; plane < 3; plane++)
      for (int64_t y = 0; y < made.height; y++) {
        const float *from = added.data() + ((plane * high + r) * s + y) * s * wide + s * r, *by = gain.data() + y * made.width;
        float* row = values.data() + (plane * made.height + y) * made.width;
        for (int64_t x = 0; x < made.width; x++) row[x] += from[x] * by[x], sum += row[x] * 0.f;
        up.clip(row, made.width);
        memcpy(whole + ((plane * s * e.height) + made.top + y) * s * e.width + made.left, row, made.width * sizeof(float));
      }
    if (sum != 0) return BIDIFFSR_NOT_FINITE;
    return e.progress ? e.progress(e.context, 0) : 0;
  }

  Floats crop(int64_t top, int64_t left, int64_t height, int64_t width, int64_t r) const {
    Floats around(3 * (height + 2 * r) * (width + 2 * r));
    up.crop(top - r, left - r, height + 2 * r, width + 2 * r, around.data());
    return around;
  }

  // 3×(height+2r)×(width+2r) less itself smoothed: 3×height×width.
  void detail(const Floats& around, int64_t height, int64_t width, float* out) const {
    const int64_t r = gaussian.radius, all = (height + 2 * r) * (width + 2 * r);
    for (int64_t plane = 0; plane < 3; plane++, out += height * width) {
      const float* x = around.data() + plane * all;
      separable<float>(x, height, width, r, gaussian.kernel.data(), out);
      for (int64_t y = 0; y < height; y++)
        for (int64_t i = 0; i < width; i++) out[y * width + i] = x[(y + r) * (width + 2 * r) + r + i] - out[y * width + i];
    }
  }

  const bidiffsr_diffusion& d;
  const bidiffsr_enlargement& e;
  Gaussian gaussian;
  int64_t box;
};

// By how much the low frequencies of a result differ from the small picture's, which is added against drifts of colour:
// what the result, averaged down, lacks, smoothed by two boxes of 9×9 pixels (edges repeated), interpolated linearly.
class Drift {
 public:
  // Takes what a result lacks: 3×height×width of the small picture's size.
  Drift(Floats lacking, int64_t height, int64_t width, int64_t scale)
      : drift(std::move(lacking)), height(height), width(width), scale(scale) {
    constexpr int64_t R = 4, SIDE = 2 * R + 1;
    const int64_t wide = width + 2 * R;
    Floats around((height + 2 * R) * wide);
    for (int64_t plane = 0; plane < 3; plane++)
      for (int time = 0; time < 2; time++) {
        float* values = drift.data() + plane * height * width;
        for (int64_t y = -R; y < height + R; y++)
          for (int64_t x = -R; x < width + R; x++)
            around[(y + R) * wide + x + R] = values[inside(y, height) * width + inside(x, width)];
        separable<float>(around.data(), height, width, R, nullptr, values);
        for (int64_t i = 0; i < height * width; i++) values[i] /= float(SIDE * SIDE);
      }
  }

  // What is added to a row of the result, from a column on.
  void row(int64_t plane, int64_t y, int64_t left, int64_t count, float* values) const {
    const Place down = place(y, height);
    const float *above = drift.data() + (plane * height + down.first) * width,
                *below = drift.data() + (plane * height + down.second) * width;
    for (int64_t x = 0; x < count; x++) {
      const Place across = place(left + x, width);
      const float high = above[across.first] + across.part * (above[across.second] - above[across.first]);
      const float low = below[across.first] + across.part * (below[across.second] - below[across.first]);
      values[x] += high + down.part * (low - high);
    }
  }

 private:
  struct Place {  // between two of the small picture's pixels
    int64_t first, second;
    float part;
  };

  Place place(int64_t at, int64_t length) const {
    const float source = (float(at) + 0.5f) / float(scale) - 0.5f, first = source < 0 ? 0 : floorf(source);
    return {int64_t(first), inside(int64_t(first) + 1, length), source < 0 ? 0 : source - first};
  }

  Floats drift;
  int64_t height, width, scale;
};

// ---- Windows -------------------------------------------------------------------------------------------------------

// Each window's weights along one side: 1 in its own part, raised-cosine ramps of width `overlap` to its neighbours', 0.
std::vector<Floats> ramps(const int32_t* starts, int64_t count, int64_t size, int64_t overlap) {
  std::vector<Floats> weights(count, Floats(size, 1.f));
  for (int64_t i = 0; i + 1 < count; i++) {
    const int64_t here = starts[i], there = starts[i + 1];
    const int64_t begin = (here + there + size - overlap) / 2, end = begin + overlap;  // the middle of what both see
    for (int64_t at = begin; at < here + size; at++) {
      const double part = at < end ? sin(PI / 2 * (double(at - begin) + 0.5) / double(overlap)) : 1;
      weights[i][at - here] = float(1 - part * part);
    }
    for (int64_t at = there; at < end; at++) {
      const double part = at < begin ? 0 : sin(PI / 2 * (double(at - begin) + 0.5) / double(overlap));
      weights[i + 1][at - there] = float(part * part);
    }
  }
  return weights;
}

class Canvas {
 public:
  Canvas(const bidiffsr_network* network, const bidiffsr_network* upsampler, const bidiffsr_diffusion& d,
         const bidiffsr_enlargement& e)
      : network(network), d(d), e(e), height(e.canvas_height), width(e.canvas_width), size(3 * height * width),
        known(d, e, upsampler) {
    of_rows = ramps(e.tops, e.row_count, e.tile_height, e.overlap);
    of_columns = ramps(e.lefts, e.column_count, e.tile_width, e.overlap);
  }

  void run() {
    if (e.step_count == 1 && by_mean(e.levels[0])) return finish();  // x_0 is 0, whatever the noise
    x = noise(0, float(e.temperature));
    Field last_x0;
    double last_step = INFINITY;
    for (int32_t i = 0; i < e.step_count; i++) {
      const bidiffsr_level &level = e.levels[i], &next = e.levels[i + 1];
      predict(level);
      step(i, level, next, last_x0, last_step);
    }
    finish();
  }

 private:
  // A field of noise, of a standard deviation where the model knows of no detail.
  Field noise(int32_t draw, float deviation) {
    Field field = scratch<float>(size);
    const int32_t status = bidiffsr_noise(e.seed, draw, e.canvas_height, e.canvas_width, e.threads, field.get());
    if (status != BIDIFFSR_OK) throw Stopped{status};
    if (d.noise_by_detail <= 0 && deviation == 1) return field;
    over_parts(e.threads, height, width, [&](const Part& part) {
      Floats gain(part.height * part.width, 1.f);
      if (d.noise_by_detail > 0) known.noise_gain(part, gain.data());
      for (int64_t plane = 0; plane < 3; plane++)
        for (int64_t y = 0; y < part.height; y++) {
          float* to = field.get() + (plane * height + part.top + y) * width + part.left;
          for (int64_t i = 0; i < part.width; i++) to[i] = to[i] * gain[y * part.width + i] * deviation;
        }
    });
    return field;
  }

  // Whether a step from a level asks no network.
  bool by_mean(const bidiffsr_level& level) const { return d.first_by_mean && !level.alpha; }

  // ---- One look of the network at every window ----

  struct Row {  // of windows, until all of it is there
    std::unique_ptr<float[]> band;
    int64_t missing;
  };

  void predict(const bidiffsr_level& level) {
    if (!prediction) prediction = scratch<float>(size);
    over_rows([&](float* row) { memset(row, 0, width * sizeof(float)); });
    if (by_mean(level)) return;  // x_0 and the prediction of v are 0
    rows.clear();
    rows.resize(e.row_count);
    for (Row& row : rows) row.missing = e.column_count;
    now = &level, failed = BIDIFFSR_OK;
    parallel(e.concurrent, int64_t(e.row_count) * e.column_count, [&](int64_t index) {
      if (failed != BIDIFFSR_OK) return;
      try {
        window(index);
      } catch (const Stopped& stopped) {
        failed = stopped.status;
      } catch (const std::bad_alloc&) {
        failed = BIDIFFSR_OUT_OF_MEMORY;  // no other window is begun
      }
    });
    if (failed != BIDIFFSR_OK) throw Stopped{failed};
    std::atomic<bool> finite{true};
    over_rows([&](const float* row) {
      float sum = 0;  // of nothing but zeros, unless a value is no number
      for (int64_t i = 0; i < width; i++) sum += row[i] * 0.f;
      if (sum != 0) finite = false;
    });
    if (!finite) throw Stopped{BIDIFFSR_NOT_FINITE};
  }

  // Calls work(row) for every row of the prediction.
  template <class Work>
  void over_rows(const Work& work) {
    over_parts(e.threads, 3 * height, 1, [&](const Part& part) {
      for (int64_t y = part.top; y < part.top + part.height; y++) work(prediction.get() + y * width);
    });
  }

  void window(int64_t index) {
    const int64_t row = index / e.column_count, column = index % e.column_count;
    const int64_t top = e.tops[row], left = e.lefts[column], high = e.tile_height, wide = e.tile_width, area = high * wide;
    Floats seen((d.detail ? 6 : 3) * area), x_t(3 * area), made(3 * area);
    known.condition(top, left, high, wide, seen.data());
    const float gain = d.input_gain ? float(now->alpha) : 1;
    for (int64_t plane = 0; plane < 3; plane++)
      for (int64_t y = 0; y < high; y++) {
        const float* from = x.get() + (plane * height + top + y) * width + left;
        float* to = x_t.data() + plane * area + y * wide;
        for (int64_t i = 0; i < wide; i++) to[i] = from[i] * gain;
      }
    int32_t status;
    if (e.predict) {
      status = e.predict(e.context, e.window_threads[index], x_t.data(), seen.data(), now->t, made.data());
    } else {
      const float* inputs[] = {seen.data(), x_t.data()};
      const bidiffsr_run run = {e.window_threads[index], 1, e.tile_height, e.tile_width, {inputs[0], inputs[1]},
                                &now->t, now->t, made.data(), nullptr};
      status = bidiffsr_network_run(network, &run);
    }
    if (status != BIDIFFSR_OK) throw Stopped{status};
    blend(row, column, made);
    if (const int32_t stop = e.progress ? e.progress(e.context, 1) : 0) throw Stopped{stop};
  }

  // Windows are blended across each row of them, finished rows downwards: every value is the sum of at most two, which
  // adds alike in either order.
  void blend(int64_t row, int64_t column, const Floats& made) {
    const std::lock_guard<std::mutex> lock(mutex);
    Row& open = rows[row];
    const int64_t high = e.tile_height, wide = e.tile_width;
    if (!open.band) {
      open.band = scratch<float>(3 * high * width);
      memset(open.band.get(), 0, 3 * high * width * sizeof(float));
    }
    const Floats& across = of_columns[column];
    for (int64_t y = 0; y < 3 * high; y++) {
      float* to = open.band.get() + y * width + e.lefts[column];
      for (int64_t i = 0; i < wide; i++) to[i] += made[y * wide + i] * across[i];
    }
    if (--open.missing) return;
    const Floats& down = of_rows[row];
    for (int64_t plane = 0; plane < 3; plane++)
      for (int64_t y = 0; y < high; y++) {
        float* to = prediction.get() + (plane * height + e.tops[row] + y) * width;
        const float* from = open.band.get() + (plane * high + y) * width;
        for (int64_t i = 0; i < width; i++) to[i] += from[i] * down[y];
      }
    open.band.reset();
  }

  // ---- The sampler ----

  // (x_0, epsilon) of a value and what the network predicts of it.
  void understand(float value, float predicted, float alpha, float sigma, float* x0, float* epsilon) const {
    if (d.epsilon)
      *x0 = (value - sigma * predicted) / alpha, *epsilon = predicted;
    else
      *x0 = alpha * value - sigma * predicted, *epsilon = sigma * value + alpha * predicted;
    if (d.clips) *x0 = *x0 < d.clip_low ? d.clip_low : *x0 > d.clip_high ? d.clip_high : *x0;
  }

  // x = of_x0 x_0 + of_epsilon epsilon + of_x x + fresh z, where x_0 may be led on by how it changed since the last step.
  void update(const bidiffsr_level& level, float of_x0, float of_epsilon, float of_x, float fresh, const Field& z,
              const Field& last_x0, float extrapolation, bool keep_x0) {
    const float alpha = float(level.alpha), sigma = float(level.sigma);
    over_parts(e.threads, 3 * height, width, [&](const Part& part) {
      for (int64_t y = part.top; y < part.top + part.height; y++)
        for (int64_t i = y * width + part.left; i < y * width + part.left + part.width; i++) {
          float x0, epsilon;
          understand(x[i], prediction[i], alpha, sigma, &x0, &epsilon);
          if (keep_x0) prediction[i] = x0;
          if (extrapolation) x0 = x0 + extrapolation * (x0 - last_x0[i]);
          float value = of_x0 * x0 + of_epsilon * epsilon + of_x * x[i];
          if (fresh) value += fresh * z[i];
          x[i] = value;
        }
    });
  }

  // Standard deviation of q(x_s | x_t, x_0).
  static double posterior(const bidiffsr_level& level, const bidiffsr_level& next) {
    const double ratio = level.alpha / next.alpha * next.sigma, variance = level.sigma * level.sigma - ratio * ratio;
    return next.sigma / level.sigma * sqrt(variance > 0 ? variance : 0);
  }

  static double log_snr(const bidiffsr_level& level) {
    if (!level.alpha) return -INFINITY;
    return level.sigma ? log(level.alpha / level.sigma) : INFINITY;
  }

  void step(int32_t index, const bidiffsr_level& level, const bidiffsr_level& next, Field& last_x0, double& last_step) {
    const Field none;
    if (e.sampler == BIDIFFSR_DPMPP_2M) {
      const double size = log_snr(next) - log_snr(level);
      double extrapolation = isfinite(size) && last_x0 ? size / (2 * last_step) : 0;
      if (extrapolation > MOST_EXTRAPOLATION) extrapolation = MOST_EXTRAPOLATION;
      const double keep = next.sigma / level.sigma;
      update(level, float(next.alpha - level.alpha * keep), 0, float(keep), 0, none, last_x0, float(extrapolation), true);
      last_x0.swap(prediction), last_step = size;
      return;
    }
    double fresh = posterior(level, next), of_x0 = next.alpha, of_epsilon = 0, of_x = 0;
    if (e.sampler == BIDIFFSR_DDIM) {
      fresh *= e.eta;
      const double rest = next.sigma * next.sigma - fresh * fresh;
      of_epsilon = sqrt(rest > 0 ? rest : 0);
    } else {
      const double ratio = level.alpha / next.alpha, share = ratio * next.sigma;
      of_x0 = next.alpha * (level.sigma * level.sigma - share * share) / (level.sigma * level.sigma);
      of_x = ratio * (next.sigma / level.sigma) * (next.sigma / level.sigma);
    }
    update(level, float(of_x0), float(of_epsilon), float(of_x), float(fresh), fresh ? noise(index + 1, 1) : Field(), none, 0, false);
  }

  // x_0 to the picture, without what fills the canvas up.
  void finish() {
    const bool drawn = bool(x);
    if (!e.match_low_frequencies)
      prediction.reset();
    else if (!prediction)
      prediction = scratch<float>(size);  // where the picture is while it is looked at
    const int64_t high = int64_t(e.scale) * e.height, wide = int64_t(e.scale) * e.width;
    over_parts(e.threads, high, wide, [&](const Part& part) {
      Floats values = picture(part, drawn);
      if (!e.match_low_frequencies) return give(part, values);
      for (int64_t y = 0; y < 3 * part.height; y++)
        memcpy(at(y / part.height, part.top + y % part.height) + part.left, values.data() + y * part.width,
               part.width * sizeof(float));
    });
    if (!e.match_low_frequencies) return;
    x.reset();
    const Drift drift(lacking(), e.height, e.width, e.scale);
    over_parts(e.threads, high, wide, [&](const Part& part) {
      Floats values(3 * part.height * part.width);
      for (int64_t y = 0; y < 3 * part.height; y++) {
        const int64_t plane = y / part.height, row = part.top + y % part.height;
        float* to = values.data() + y * part.width;
        memcpy(to, at(plane, row) + part.left, part.width * sizeof(float));
        drift.row(plane, row, part.left, part.width, to);
        for (int64_t i = 0; i < part.width; i++) to[i] = clamped(to[i]);
      }
      give(part, values);
    });
  }

  // A part of the picture, 3×height×width in [0, 1]: up + s r where x_0 is the residual; x holds x_0 where it was drawn,
  // else x_0 is 0.
  Floats picture(const Part& part, bool drawn) const {
    const int64_t area = part.height * part.width;
    Floats values(3 * area), gain(drawn && d.residual && d.residual_by_detail > 0 ? area : 0), raised;
    if (d.residual) known.up.crop(part.top, part.left, part.height, part.width, values.data());
    if (!drawn) {
      for (float& value : values) value = clamped(value);
      return values;
    }
    if (!gain.empty()) known.residual_gain(part, gain.data());
    for (int64_t plane = 0; plane < 3; plane++)
      for (int64_t y = 0; y < part.height; y++) {
        const float* from = x.get() + (plane * height + part.top + y) * width + part.left;
        if (d.residual && d.diagonal_gain > 0) from = with_diagonals_raised(plane, part, part.top + y, raised);
        for (int64_t i = 0; i < part.width; i++) {
          float& value = values[plane * area + y * part.width + i];
          const float scaled = d.residual ? from[i] * d.residual_scale * (gain.empty() ? 1 : gain[y * part.width + i]) : from[i];
          value = clamped(scaled + value);
        }
      }
    return values;
  }

  // Row y of x_0 in a part as `raise_diagonals` defines it; it lies in `made`.
  const float* with_diagonals_raised(int64_t plane, const Part& part, int64_t y, Floats& made) const {
    const int64_t high = int64_t(e.scale) * e.height, wide = int64_t(e.scale) * e.width, count = part.width;
    const auto row = [&](int64_t at) { return x.get() + (plane * height + inside(at, high)) * width; };
    const float *above = row(y - 1), *here = row(y), *below = row(y + 1);
    made.resize(2 * count + 2);
    float *out = made.data(), *down = out + count;  // second differences of columns left - 1 to left + count
    const auto bent = [&](int64_t at) { return above[at] - 2 * here[at] + below[at]; };
    for (int64_t i = 0; i < count; i++) down[i + 1] = bent(part.left + i);
    down[0] = bent(inside(part.left - 1, wide)), down[count + 1] = bent(inside(part.left + count, wide));
    for (int64_t i = 0; i < count; i++) out[i] = here[part.left + i] + d.diagonal_gain * (down[i] - 2 * down[i + 1] + down[i + 2]);
    return out;
  }

  // What the picture on the canvas, averaged down, lacks of the small one: 3×height×width of the small one's size.
  Floats lacking() const {
    Floats result(3 * int64_t(e.height) * e.width);
    for (int64_t plane = 0; plane < 3; plane++)
      for (int64_t y = 0; y < e.height; y++)
        for (int64_t i = 0; i < e.width; i++) {
          float sum = 0;
          for (int64_t row = 0; row < e.scale; row++)
            for (int64_t column = 0; column < e.scale; column++) sum += at(plane, y * e.scale + row)[i * e.scale + column];
          const int64_t place = y * e.width + i;
          result[plane * e.height * e.width + place] = known.up.small(plane)[place] - sum / float(e.scale * e.scale);
        }
    return result;
  }

  // Write a part of the picture as the caller wants it.
  void give(const Part& part, const Floats& values) const {
    const int64_t high = int64_t(e.scale) * e.height, wide = int64_t(e.scale) * e.width, area = part.height * part.width;
    for (int64_t y = 0; y < part.height; y++) {
      const float *red = values.data() + y * part.width, *green = red + area, *blue = green + area;
      const int64_t place = (part.top + y) * wide + part.left;
      if (e.output_kind == BIDIFFSR_FLOATS) {
        for (int64_t plane = 0; plane < 3; plane++)
          memcpy(static_cast<float*>(e.output) + plane * high * wide + place, red + plane * area, part.width * sizeof(float));
      } else if (e.output_kind == BIDIFFSR_LEVELS_16) {
        uint16_t* to = static_cast<uint16_t*>(e.output) + place;
        for (int64_t i = 0; i < part.width; i++) to[i] = uint16_t(lrintf((red[i] + green[i] + blue[i]) / 3 * 65535));
      } else if (e.channels == 1) {
        uint8_t* to = static_cast<uint8_t*>(e.output) + place;
        for (int64_t i = 0; i < part.width; i++) to[i] = uint8_t(lrintf((red[i] + green[i] + blue[i]) / 3 * 255));
      } else {
        uint8_t* to = static_cast<uint8_t*>(e.output) + 3 * place;
        for (int64_t i = 0; i < part.width; i++)
          to[3 * i] = uint8_t(lrintf(red[i] * 255)), to[3 * i + 1] = uint8_t(lrintf(green[i] * 255)),
                 to[3 * i + 2] = uint8_t(lrintf(blue[i] * 255));
      }
    }
  }

  // A row of the picture that `finish` looks at.
  float* at(int64_t plane, int64_t row) const { return prediction.get() + (plane * height + row) * width; }

  static float clamped(float value) { return value < 0 ? 0 : value > 1 ? 1 : value; }

  const bidiffsr_network* network;
  const bidiffsr_diffusion& d;
  const bidiffsr_enlargement& e;
  int64_t height, width, size;
  Knowledge known;
  std::vector<Floats> of_rows, of_columns;  // the windows' weights
  Field x, prediction;
  std::vector<Row> rows;
  const bidiffsr_level* now = nullptr;
  std::atomic<int32_t> failed{BIDIFFSR_OK};
  std::mutex mutex;
};

}  // namespace
}  // namespace bidiffsr

using namespace bidiffsr;

extern "C" int32_t bidiffsr_enlarge(const bidiffsr_network* network, const bidiffsr_network* upsampler,
                                    const bidiffsr_diffusion* diffusion, const bidiffsr_enlargement* enlargement) {
  const bidiffsr_enlargement& e = *enlargement;
  if (e.output_kind < BIDIFFSR_FLOATS || e.output_kind > BIDIFFSR_LEVELS_16) return BIDIFFSR_MISFIT;
  if (e.channels != 1 && (e.channels != 3 || e.output_kind == BIDIFFSR_LEVELS_16)) return BIDIFFSR_MISFIT;
  if (!e.predict) {
    int32_t size[3];
    if (!network || !bidiffsr_network_takes(network, diffusion->detail ? 6 : 3, 3)) return BIDIFFSR_MISFIT;
    const int32_t status = bidiffsr_network_size(network, e.tile_height, e.tile_width, size);
    if (status != BIDIFFSR_OK) return status;
    if (size[0] != 3 || size[1] != e.tile_height || size[2] != e.tile_width) return BIDIFFSR_MISFIT;
  }
  if (upsampler) {
    const int64_t side = 2 * int64_t(diffusion->upsampler_radius) + 1;
    int32_t size[3];
    if (diffusion->upsampler_radius < 0 || !bidiffsr_network_takes(upsampler, 3, 0)) return BIDIFFSR_MISFIT;
    const int32_t status = bidiffsr_network_size(upsampler, int32_t(side), int32_t(side), size);
    if (status != BIDIFFSR_OK) return status;
    if (size[0] != 3 || size[1] != e.scale * side || size[2] != e.scale * side) return BIDIFFSR_MISFIT;
  }
  try {
    Canvas(network, upsampler, *diffusion, *enlargement).run();
  } catch (const Stopped& stopped) {
    return stopped.status;
  } catch (const std::exception&) {
    return BIDIFFSR_OUT_OF_MEMORY;
  }
  return BIDIFFSR_OK;
}
