// How fast this machine is.
#include <chrono>

#include "kernels.h"

using namespace bidiffsr;

namespace {

template <class Work>
double seconds(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double best(double a, double b) { return a > b ? a : b; }

}  // namespace

extern "C" {

double bidiffsr_peak_rate(int32_t isa) {
  const Kernels* k = kernels(isa);
  if (!k) return 0;
  double rate = 0;
  for (int i = 0; i < 5; i++) {
    double work = 0;
    const double taken = seconds([&] { work = k->peak(200000); });
    rate = best(rate, work / taken);
  }
  return rate;
}

double bidiffsr_clock_rate(void) {
  double rate = 0;
  for (int i = 0; i < 5; i++) {
    uint64_t x = uint64_t(i);
    const double taken = seconds([&] {
      for (int j = 0; j < 2000000; j++) {  // eight additions, each of which waits for the one before: a cycle each
        for (int step = 0; step < 8; step++) {
          x += uint64_t(j);
          __asm__ volatile("" : "+r"(x));
        }
      }
    });
    rate = best(rate, 8 * 2000000 / taken);
  }
  return rate;
}

}  // extern "C"
