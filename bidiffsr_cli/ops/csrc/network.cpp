// A network: its operations with all their weights, and a run through them. A feature map lives from the operation that
// makes it to the last one that reads it.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <chrono>
#include <memory>
#include <new>
#include <vector>

#include "bands.h"
#include "kernels.h"

namespace bidiffsr {
namespace {

using Floats = std::vector<float>;

struct Misfit : std::exception {};

void require(bool fits) {
  if (!fits) throw Misfit();
}

void require(bidiffsr_status status) {
  if (status == BIDIFFSR_OUT_OF_MEMORY) throw std::bad_alloc();
  require(status == BIDIFFSR_OK);
}

void require(int32_t status) { require(bidiffsr_status(status)); }

Floats copy(const float* values, int64_t count) { return values ? Floats(values, values + count) : Floats(); }

const float* or_null(const Floats& values) { return values.empty() ? nullptr : values.data(); }

// Which of the groups that time is evenly cut into a step lies in.
int64_t group_of(int64_t step, int64_t groups, int64_t total) {
  const int64_t group = step * groups / total;
  return group < groups ? group : groups - 1;
}

float swish(float x) { return float(x / (1 + exp(-double(x)))); }

struct Size {
  int64_t channels, height, width;
  int64_t values() const { return channels * height * width; }
};

// Of a map, more than any memory holds: so no size of memory is too large a number.
constexpr int64_t MOST_VALUES = int64_t(1) << 44;

// A feature map of a run, and each row's sums where it is not planes.
struct Map {
  Size size = {};
  const float* data = nullptr;
  std::unique_ptr<float[]> own, moments;
};

struct BinaryConv {
  ConvCall call = {};  // but for what is the time's
  std::vector<uint8_t> weights;
  Floats alpha, tar, shift, slope, offset;
  int64_t tar_groups, taa_groups;

  BinaryConv(int32_t isa, const bidiffsr_binary_conv& c) : tar_groups(c.tar_groups), taa_groups(c.taa_groups) {
    require((c.kernel == 1 || c.kernel == 3) && c.inputs > 0 && c.outputs > 0 && tar_groups > 0 && taa_groups > 0);
    require(c.identity == BIDIFFSR_NONE || c.inputs == c.outputs);
    require(c.segment_count == 1 || c.segment_count == 2);
    const int64_t row_bytes = (int64_t(c.kernel) * c.kernel * c.inputs + 63) / 64 * 8;
    weights.resize(prepared_bytes(isa, c.outputs, c.inputs, c.kernel));
    require(prepare(isa, c.signs, row_bytes, c.outputs, c.inputs, c.kernel, weights.data()));
    alpha = copy(c.alpha, c.outputs), tar = copy(c.tar, tar_groups * c.inputs);
    for (float& shift_of_one : tar) shift_of_one += 0.0f;  // turns -0.0 into 0.0, so that no sum is -0.0
    shift = copy(c.shift, taa_groups * c.outputs), slope = copy(c.slope, taa_groups * c.outputs);
    offset = copy(c.offset, taa_groups * c.outputs);
    call.inputs = c.inputs, call.outputs = c.outputs, call.kernel = c.kernel, call.identity = c.identity;
    call.segment_count = c.segment_count;
    memcpy(call.segments, c.segments, sizeof call.segments);
  }

  ConvCall at(int64_t step, int64_t total) const {
    ConvCall c = call;
    const int64_t of_taa = group_of(step, taa_groups, total) * c.outputs;
    c.weights = weights.data(), c.alpha = alpha.data();
    c.tar = tar.data() + group_of(step, tar_groups, total) * c.inputs;
    c.taa_shift = shift.data() + of_taa, c.taa_slope = slope.data() + of_taa, c.taa_offset = offset.data() + of_taa;
    return c;
  }

  int64_t bytes() const {
    return int64_t(weights.size()) + 4 * (alpha.size() + tar.size() + shift.size() + slope.size() + offset.size());
  }
};

// All that a run's operations share.
struct Run {
  const bidiffsr_run& r;
  int64_t total;
  Floats embedding;  // batch × channels
  std::vector<Map> maps;
};

class Operation {
 public:
  Operation(int32_t isa, const bidiffsr_operation& operation, const std::vector<int64_t>& channels, int64_t embedding)
      : isa(isa), o(own_fields(operation)), embedding(embedding) {
    const auto known = [&](int32_t map) { return map >= 0 && map < int64_t(channels.size()); };
    require(known(o.source[0]) && (o.source[1] == -1 || known(o.source[1])) && (o.residual == -1 || known(o.residual)));
    inputs = channels[o.source[0]] + (o.source[1] < 0 ? 0 : channels[o.source[1]]);
    if (o.norm_groups) {
      require(o.source[1] < 0 && o.norm_groups > 0 && inputs % o.norm_groups == 0);
      norm_weight = copy(o.norm_weight, inputs), norm_bias = copy(o.norm_bias, inputs);
    }
    if (o.kind == BIDIFFSR_BINARY)
      take_binary(channels);
    else if (o.kind == BIDIFFSR_FULL)
      take_full();
    else if (o.kind == BIDIFFSR_ATTENTION)
      take_attention();
    else if (o.kind == BIDIFFSR_ADD)
      require(o.source[1] >= 0 && channels[o.source[0]] == channels[o.source[1]]), made = inputs / 2;
    else
      require(o.kind == BIDIFFSR_JOIN && o.repeat >= 1), made = inputs;
    if (o.time_weight) {
      require(embedding > 0 && o.time_bias && o.arrangement == BIDIFFSR_PLAIN);
      time_weight = copy(o.time_weight, made * embedding), time_bias = copy(o.time_bias, made);
    }
    require(o.residual < 0 || (channels[o.residual] == result_channels() && o.arrangement == BIDIFFSR_PLAIN && !o.shuffle));
  }

  // Whether it wants a map's sums.
  bool norms(int32_t map) const { return o.norm_groups && o.source[0] == map; }

  bool reads(int32_t map) const { return o.source[0] == map || o.source[1] == map || o.residual == map; }

  // Channels of the result; where it is shuffled fewer than the convolutions', where unshuffled more.
  int64_t result_channels() const {
    if (o.arrangement == BIDIFFSR_UNSHUFFLE) return 4 * made;
    const int64_t r = o.arrangement == BIDIFFSR_SHUFFLE ? 2 : o.shuffle > 0 ? o.shuffle : 1;
    return made / (r * r);
  }

  bool gives_planes() const { return o.shuffle > 0; }
  bool takes_planes() const { return o.unshuffle > 0; }

  // The size of the result, of the sizes of all maps before.
  Size size_of(const std::vector<Size>& sizes) const {
    Size size = sizes[o.source[0]];
    for (int32_t other : {o.source[1], o.residual})
      if (other >= 0 && (other == o.source[1] || !o.shuffle))
        require(sizes[other].height == size.height && sizes[other].width == size.width);
    size.channels = result_channels();
    if (o.unshuffle) divide(size, o.unshuffle);
    if (o.shuffle) size.height *= o.shuffle, size.width *= o.shuffle;
    if (o.arrangement == BIDIFFSR_SHUFFLE) size.height *= 2, size.width *= 2;
    if (o.arrangement == BIDIFFSR_UNSHUFFLE || o.arrangement == BIDIFFSR_STRIDED) divide(size, 2);
    if (o.repeat) size.height *= o.repeat, size.width *= o.repeat;
    require(size.height <= INT32_MAX && size.width <= INT32_MAX && size.height * size.width <= MOST_VALUES / size.channels);
    return size;
  }

  void run(Run& run, float* output, float* moments) const {
    const Floats addend = this->addend(run), scale = norm(run);
    const float* shift = scale.empty() ? nullptr : scale.data() + scale.size() / 2;
    if (o.kind == BIDIFFSR_BINARY)
      run_binary(run, or_null(scale), shift, or_null(addend), output, moments);
    else if (o.kind == BIDIFFSR_FULL)
      run_full(run, or_null(scale), shift, or_null(addend), output, moments);
    else if (o.kind == BIDIFFSR_ATTENTION)
      run_attention(run, or_null(scale), shift, output, moments);
    else if (o.kind == BIDIFFSR_ADD)
      run_add(run, output, moments);
    else
      run_join(run, output, moments);
  }

  int64_t bytes() const {
    int64_t sum = int64_t(weight.size() + second.size());
    for (const Floats* values : {&norm_weight, &norm_bias, &time_weight, &time_bias, &bias}) sum += 4 * values->size();
    for (const BinaryConv& conv : convs) sum += conv.bytes();
    return sum;
  }

 private:
  // Without what does not belong to its kind.
  static bidiffsr_operation own_fields(bidiffsr_operation o) {
    if (o.kind != BIDIFFSR_BINARY) o.conv_count = o.concatenate = 0, o.arrangement = BIDIFFSR_PLAIN;
    if (o.kind != BIDIFFSR_FULL) o.shuffle = o.unshuffle = o.relu = 0;
    if (o.kind != BIDIFFSR_JOIN) o.repeat = 0;
    if (o.kind != BIDIFFSR_BINARY && o.kind != BIDIFFSR_FULL) o.residual = -1, o.time_weight = nullptr;
    if (o.kind == BIDIFFSR_ADD || o.kind == BIDIFFSR_JOIN) o.norm_groups = 0;
    return o;
  }

  static void divide(Size& size, int64_t r) {
    require(size.height % r == 0 && size.width % r == 0);
    size.height /= r, size.width /= r;
  }

  void take_binary(const std::vector<int64_t>& channels) {
    require(o.conv_count == 1 || o.conv_count == 2);
    for (int i = 0; i < o.conv_count; i++) {
      const bidiffsr_binary_conv& c = o.convs[i];
      convs.emplace_back(isa, c);
      require(o.arrangement != BIDIFFSR_STRIDED || c.identity == BIDIFFSR_NONE);
      int64_t count = 0;
      for (int j = 0; j < c.segment_count; j++) {
        const bidiffsr_segment& s = c.segments[j];
        require((s.source == 0 || (s.source == 1 && o.source[1] >= 0)) && s.first >= 0 && s.step > 0 && s.count > 0);
        require(s.first + int64_t(s.count - 1) * s.step < channels[o.source[s.source]]);
        count += s.count;
      }
      require(count == c.inputs);
      require(!o.norm_groups || (c.segment_count == 1 && c.segments[0].first == 0 && c.segments[0].step == 1 && count == inputs));
      made += i == 0 || o.concatenate ? c.outputs : 0;
    }
    require(o.concatenate || o.conv_count == 1 || o.convs[0].outputs == o.convs[1].outputs);
    require(o.arrangement >= BIDIFFSR_PLAIN && o.arrangement <= BIDIFFSR_STRIDED);
    require(o.arrangement != BIDIFFSR_SHUFFLE || made % 4 == 0);
  }

  void take_full() {
    require((o.kernel == 1 || (o.kernel == 3 && !o.bfloat16)) && o.outputs > 0 && o.shuffle >= 0 && o.unshuffle >= 0);
    require(!o.shuffle || o.outputs % (o.shuffle * o.shuffle) == 0);
    require(!o.unshuffle || (!o.norm_groups && o.residual < 0));
    require(!o.relu || (!o.norm_groups && !o.unshuffle));
    made = o.outputs;
    if (o.unshuffle) inputs *= int64_t(o.unshuffle) * o.unshuffle;
    weight = prepared(o.weight, o.outputs, inputs, o.kernel, o.bfloat16);
    bias = copy(o.bias, o.outputs);
  }

  void take_attention() {
    require(o.norm_groups > 0);
    made = inputs;
    weight = prepared(o.weight, 3 * inputs, inputs, 1, 0), second = prepared(o.second, inputs, inputs, 1, 0);
    bias = copy(o.bias, inputs);
  }

  std::vector<uint8_t> prepared(const float* weights, int64_t outputs, int64_t inputs, int32_t kernel, int32_t bfloat16) const {
    std::vector<uint8_t> bytes(prepared_full_bytes(isa, bfloat16, int32_t(outputs), int32_t(inputs), kernel));
    require(prepare_full(isa, bfloat16, weights, int32_t(outputs), int32_t(inputs), kernel, bytes.data()));
    return bytes;
  }

  // GroupNorm as batch × channels scales, and behind them as many shifts; empty where there is none.
  Floats norm(const Run& run) const {
    if (!o.norm_groups) return {};
    const Map& x = run.maps[o.source[0]];
    const int64_t channels = x.size.channels, count = run.r.batch * channels;
    Floats made(2 * count);
    for (int64_t image = 0; image < run.r.batch; image++)
      norm_coefficients(x.moments.get() + image * x.size.height * 2 * channels, x.size.height, x.size.width,
                                 channels, o.norm_groups, o.norm_eps, norm_weight.data(), norm_bias.data(),
                                 made.data() + image * channels, made.data() + count + image * channels);
    return made;
  }

  Floats addend(const Run& run) const {
    if (time_weight.empty()) return {};
    Floats sums(run.r.batch * made);
    for (int64_t image = 0; image < run.r.batch; image++)
      for (int64_t channel = 0; channel < made; channel++) {
        double sum = time_bias[channel];
        for (int64_t i = 0; i < embedding; i++)
          sum += double(time_weight[channel * embedding + i]) * run.embedding[image * embedding + i];
        sums[image * made + channel] = float(sum);
      }
    return sums;
  }

  const float* residual(const Run& run) const { return o.residual < 0 ? nullptr : run.maps[o.residual].data; }

  template <class Call>
  void set_sources(const Run& run, Call& call) const {
    call.isa = isa, call.threads = run.r.threads, call.batch = run.r.batch;
    for (int i = 0; i < 2; i++) {
      if (o.source[i] < 0) continue;
      call.source[i] = run.maps[o.source[i]].data;
      call.source_channels[i] = int32_t(run.maps[o.source[i]].size.channels);
    }
  }

  void run_binary(const Run& run, const float* scale, const float* shift, const float* addend, float* output,
                  float* moments) const {
    BlockCall block = {};
    set_sources(run, block);
    const Size& size = run.maps[o.source[0]].size;
    block.height = int32_t(size.height), block.width = int32_t(size.width);
    block.norm_scale = scale, block.norm_shift = shift, block.addend = addend, block.residual = residual(run);
    block.conv_count = o.conv_count, block.concatenate = o.concatenate, block.arrangement = o.arrangement;
    for (int i = 0; i < o.conv_count; i++) block.convs[i] = convs[i].at(run.r.step, run.total);
    block.output = output, block.moments = moments;
    require(bidiffsr::run_block(&block));
  }

  void run_full(const Run& run, const float* scale, const float* shift, const float* addend, float* output,
                float* moments) const {
    FullConvCall conv = {};
    set_sources(run, conv);
    const Size& size = run.maps[o.source[0]].size;
    const int32_t r = o.unshuffle ? o.unshuffle : 1;
    conv.height = int32_t(size.height) / r, conv.width = int32_t(size.width) / r;
    conv.bfloat16 = o.bfloat16, conv.kernel = o.kernel, conv.outputs = o.outputs;
    conv.unshuffle = o.unshuffle, conv.shuffle = o.shuffle;
    conv.norm_scale = scale, conv.norm_shift = shift, conv.addend = addend, conv.residual = residual(run);
    conv.relu = o.relu;
    conv.weights = weight.data(), conv.bias = bias.data();
    conv.output = output, conv.moments = moments;
    require(bidiffsr::run_full_conv(&conv));
  }

  void run_attention(const Run& run, const float* scale, const float* shift, float* output, float* moments) const {
    const Map& x = run.maps[o.source[0]];
    AttentionCall call = {};
    call.isa = isa, call.threads = run.r.threads, call.batch = run.r.batch;
    call.height = int32_t(x.size.height), call.width = int32_t(x.size.width), call.channels = int32_t(x.size.channels);
    call.x = x.data, call.norm_scale = scale, call.norm_shift = shift;
    call.qkv = weight.data(), call.out = second.data(), call.bias = bias.data();
    call.output = output, call.moments = moments;
    require(bidiffsr::run_attention(&call));
  }

  void run_add(const Run& run, float* output, float* moments) const {
    const Map &a = run.maps[o.source[0]], &b = run.maps[o.source[1]];
    const int64_t count = run.r.batch * a.size.values();
    for (int64_t i = 0; i < count; i++) output[i] = a.data[i] + b.data[i];
    sum_rows(run, a.size.height, a.size.width, output, moments);
  }

  void run_join(const Run& run, float* output, float* moments) const {
    const Size& size = run.maps[o.source[0]].size;
    const int64_t row_floats = size.width * o.repeat * made;
    parallel(run.r.threads, run.r.batch * size.height, [&](int64_t row) {
      float *first = output + row * o.repeat * row_floats, *to = first;
      for (int64_t pixel = row * size.width; pixel < (row + 1) * size.width; pixel++)
        for (int32_t again = 0; again < o.repeat; again++)
          for (const int32_t source : o.source) {
            if (source < 0) continue;
            const Map& map = run.maps[source];
            memcpy(to, map.data + pixel * map.size.channels, map.size.channels * sizeof(float));
            to += map.size.channels;
          }
      for (int32_t again = 1; again < o.repeat; again++) memcpy(first + again * row_floats, first, row_floats * sizeof(float));
    });
    sum_rows(run, size.height * o.repeat, size.width * o.repeat, output, moments);
  }

  // The sums of a result's rows, where they are wanted.
  void sum_rows(const Run& run, int64_t height, int64_t width, const float* output, float* moments) const {
    if (moments) require(row_moments(isa, run.r.threads, output, run.r.batch * height, width, made, moments));
  }

  int32_t isa;
  bidiffsr_operation o;  // its numbers; its pointers are the caller's and not looked at any more
  int64_t embedding, inputs = 0, made = 0;  // channels of t's embedding, of the sources, of the convolutions' results
  std::vector<BinaryConv> convs;
  std::vector<uint8_t> weight, second;
  Floats norm_weight, norm_bias, time_weight, time_bias, bias;
};

// Linear(Swish(Linear(sinusoids of t))), as `networks.unet.TimeEmbedding`.
class Embedding {
 public:
  explicit Embedding(const bidiffsr_embedding& e) : channels(e.channels), with_swish(e.swish) {
    require(channels >= 0 && channels % 2 == 0);
    weight1 = copy(e.weight1, 4 * channels * channels), bias1 = copy(e.bias1, 4 * channels);
    weight2 = copy(e.weight2, 4 * channels * channels), bias2 = copy(e.bias2, channels);
  }

  void compute(int32_t t, float* out) const {
    const int64_t half = channels / 2;
    std::vector<double> x(channels), hidden(4 * channels);
    for (int64_t i = 0; i < half; i++) {
      const double angle = t * double(float(exp(double(i) / double(half) * -log(1e4))));
      x[i] = sin(angle), x[half + i] = cos(angle);
    }
    for (int64_t o = 0; o < 4 * channels; o++) {
      double sum = bias1[o];
      for (int64_t i = 0; i < channels; i++) sum += weight1[o * channels + i] * x[i];
      hidden[o] = swish(float(sum));
    }
    for (int64_t o = 0; o < channels; o++) {
      double sum = bias2[o];
      for (int64_t i = 0; i < 4 * channels; i++) sum += weight2[o * 4 * channels + i] * hidden[i];
      out[o] = with_swish ? swish(float(sum)) : float(sum);
    }
  }

  int64_t bytes() const { return 4 * int64_t(weight1.size() + bias1.size() + weight2.size() + bias2.size()); }

  const int64_t channels;

 private:
  bool with_swish;
  Floats weight1, bias1, weight2, bias2;
};

class Network {
 public:
  explicit Network(const bidiffsr_description& d)
      : isa(d.isa), total(d.total_steps), planes(d.input_planes), inputs(d.input_count), embedding(d.embedding) {
    require(total > 0 && inputs >= 1 && inputs <= BIDIFFSR_INPUTS && d.operation_count > 0);
    std::vector<bool> is_planes(inputs, planes);
    for (int32_t i = 0; i < inputs; i++) require(d.input_channels[i] > 0), channels.push_back(d.input_channels[i]);
    for (int32_t i = 0; i < d.operation_count; i++) {
      operations.emplace_back(isa, d.operations[i], channels, embedding.channels);
      const Operation& made = operations.back();
      for (int32_t map = 0; map < int32_t(channels.size()); map++)
        require(!made.reads(map) || is_planes[map] == made.takes_planes());
      channels.push_back(made.result_channels()), is_planes.push_back(made.gives_planes());
    }
  }

  std::vector<Size> sizes(int64_t height, int64_t width) const {
    require(height > 0 && width > 0);
    std::vector<Size> sizes;
    for (int32_t i = 0; i < inputs; i++) sizes.push_back({channels[i], height, width});
    for (const Operation& operation : operations) sizes.push_back(operation.size_of(sizes));
    return sizes;
  }

  void run(const bidiffsr_run& r) const {
    require(r.batch > 0 && r.step >= 0 && r.step < total);
    const std::vector<Size> size = sizes(r.height, r.width);
    Run run{r, total, Floats(r.batch * embedding.channels), std::vector<Map>(size.size())};
    for (int64_t image = 0; embedding.channels && image < r.batch; image++)
      embedding.compute(r.t[image], run.embedding.data() + image * embedding.channels);
    for (int32_t i = 0; i < inputs; i++) {
      Map& map = run.maps[i];
      map.size = size[i], map.data = r.inputs[i];
      if (!normed(i)) continue;
      map.moments = scratch<float>(r.batch * map.size.height * 2 * map.size.channels);
      require(row_moments(isa, r.threads, map.data, r.batch * map.size.height, map.size.width, map.size.channels,
                               map.moments.get()));
    }
    for (size_t i = 0; i < operations.size(); i++) {
      const auto started = std::chrono::steady_clock::now();
      Map& made = run.maps[inputs + i];
      made.size = size[inputs + i];
      float* output = r.output;
      if (i + 1 < operations.size()) {
        made.own = scratch<float>(r.batch * made.size.values());
        output = made.own.get();
      }
      if (normed(int32_t(inputs + i))) made.moments = scratch<float>(r.batch * made.size.height * 2 * made.size.channels);
      operations[i].run(run, output, made.moments.get());
      made.data = output;
      for (int32_t map = 0; map < int32_t(inputs + i); map++)
        if (last_use(map) == int64_t(i)) run.maps[map] = {};
      if (r.seconds) r.seconds[i] = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    }
  }

  int64_t bytes() const {
    int64_t sum = embedding.bytes();
    for (const Operation& operation : operations) sum += operation.bytes();
    return sum;
  }

  bool takes(int64_t first, int64_t second) const {
    return planes && inputs == 1 + (second > 0) && channels[0] == first && (!second || channels[1] == second);
  }

 private:
  bool normed(int32_t map) const {
    for (const Operation& operation : operations)
      if (operation.norms(map)) return true;
    return false;
  }

  // The last operation that reads a map; -1 if none does.
  int64_t last_use(int32_t map) const {
    for (int64_t i = int64_t(operations.size()) - 1; i >= 0; i--)
      if (operations[i].reads(map)) return i;
    return -1;
  }

  int32_t isa;
  int64_t total;
  bool planes;
  int32_t inputs;
  Embedding embedding;
  std::vector<Operation> operations;
  std::vector<int64_t> channels;  // of all maps
};

// Errors as numbers, for a caller in C.
template <class Work>
int32_t status_of(const Work& work) {
  try {
    work();
  } catch (const Misfit&) {
    return BIDIFFSR_MISFIT;
  } catch (const std::exception&) {
    return BIDIFFSR_OUT_OF_MEMORY;
  }
  return BIDIFFSR_OK;
}

}  // namespace
}  // namespace bidiffsr

using namespace bidiffsr;

struct bidiffsr_network : Network {
  using Network::Network;
};

bool bidiffsr_network_takes(const bidiffsr_network* network, int32_t first, int32_t second) {
  return network->takes(first, second);
}

extern "C" {

int32_t bidiffsr_abi(void) { return BIDIFFSR_ABI; }

int32_t bidiffsr_network_new(const bidiffsr_description* description, bidiffsr_network** network) {
  if (!kernels(description->isa)) return BIDIFFSR_UNSUPPORTED;
  return status_of([&] { *network = new bidiffsr_network(*description); });
}

void bidiffsr_network_delete(bidiffsr_network* network) { delete network; }

int64_t bidiffsr_network_bytes(const bidiffsr_network* network) { return network->bytes(); }

int32_t bidiffsr_network_size(const bidiffsr_network* network, int32_t height, int32_t width, int32_t size[3]) {
  return status_of([&] {
    const Size last = network->sizes(height, width).back();
    size[0] = int32_t(last.channels), size[1] = int32_t(last.height), size[2] = int32_t(last.width);
  });
}

int32_t bidiffsr_network_run(const bidiffsr_network* network, const bidiffsr_run* run) {
  return status_of([&] { network->run(*run); });
}

}  // extern "C"
