#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace bidiffsr {
namespace {

struct Job {
  void (*work)(void*, int64_t);
  void* context;
  int64_t tasks;
  std::atomic<int64_t> next{0};
  int running = 0;  // helpers inside; guarded by the pool's mutex

  void drain() {
    for (int64_t task; (task = next.fetch_add(1)) < tasks;) work(context, task);
  }
};

struct Pool {
  std::mutex mutex;
  std::condition_variable wake, done;
  std::deque<Job*> wanted;  // one entry for each helper that a job can still use
  int threads = 0, busy = 0;  // threads that there are; those that are inside of a job

  void help() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return !wanted.empty(); });
      Job* job = wanted.front();
      wanted.pop_front();
      job->running++, busy++;
      lock.unlock();
      job->drain();
      lock.lock();
      busy--;
      if (--job->running == 0) done.notify_all();
    }
  }

  void run(Job& job, int helpers) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      wanted.insert(wanted.end(), helpers, &job);
      try {
        for (; threads < busy + int(wanted.size()); threads++) std::thread(&Pool::help, this).detach();
      } catch (const std::exception&) {
        // the system gives no more threads: those that there are, and the caller, do the work
      }
    }
    helpers == 1 ? wake.notify_one() : wake.notify_all();
    job.drain();
    std::unique_lock<std::mutex> lock(mutex);
    for (auto entry = wanted.begin(); entry != wanted.end();) entry = *entry == &job ? wanted.erase(entry) : entry + 1;
    done.wait(lock, [&] { return job.running == 0; });
  }
};

// Never destroyed: its threads sleep in it until the process ends. After fork() the child, which has no threads, starts
// a new one.
std::atomic<Pool*> current{nullptr};

Pool& pool() {
  Pool* found = current.load();
  if (found) return *found;
  static std::mutex once;
  std::lock_guard<std::mutex> lock(once);
  if (!(found = current.load())) {
#if !defined(_WIN32)
    static bool registered = false;
    if (!registered) pthread_atfork([] { once.lock(); }, [] { once.unlock(); }, [] {
      current.store(nullptr);
      once.unlock();
    });
    registered = true;
#endif
    current.store(found = new Pool);
  }
  return *found;
}

}  // namespace

void parallel(int threads, int64_t tasks, void (*work)(void*, int64_t), void* context) {
  Job job;
  job.work = work, job.context = context, job.tasks = tasks;
  const int64_t helpers = (threads < tasks ? threads : tasks) - 1;
  if (helpers < 1)
    job.drain();
  else
    pool().run(job, int(helpers));
}

}  // namespace bidiffsr
