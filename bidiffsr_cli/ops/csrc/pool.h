// A small pool of threads for the loops of this library. Idle threads sleep; they never spin, so two processes on the
// same cores share them fairly.
#pragma once

#include <stdint.h>

namespace bidiffsr {

// Calls work(context, task) for every task in 0..tasks-1, on up to `threads` threads of which the caller is one. Returns
// when all are done. Several callers may use the pool at once; a process made by fork() gets a new one.
void parallel(int threads, int64_t tasks, void (*work)(void* context, int64_t task), void* context);

}  // namespace bidiffsr
