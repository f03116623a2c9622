// A small pool of threads for the loops of this library. Idle threads sleep; they never spin, so two processes on the
// same cores share them fairly.
#pragma once

#include <stdint.h>

#include <atomic>
#include <new>

namespace bidiffsr {

// Calls work(context, task) for every task in 0..tasks-1, on up to `threads` threads of which the caller is one. Returns
// when all are done. Several callers may use the pool at once; a process made by fork() gets a new one.
void parallel(int threads, int64_t tasks, void (*work)(void* context, int64_t task), void* context);

// Likewise calls work(task), for which memory may run out: std::bad_alloc is thrown when all are done.
template <class Work>
void parallel(int threads, int64_t tasks, const Work& work) {
  struct Context {
    const Work& work;
    std::atomic<bool> failed{false};

    static void run(void* context, int64_t task) {
      Context& all = *static_cast<Context*>(context);
      try {
        all.work(task);
      } catch (const std::bad_alloc&) {
        all.failed = true;
      }
    }
  } context{work};
  parallel(threads, tasks, Context::run, &context);
  if (context.failed) throw std::bad_alloc();
}

}  // namespace bidiffsr
