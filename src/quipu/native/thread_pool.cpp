#include "thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <chrono>

namespace quipu {
namespace {

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Spins until `done`. Where there are more threads than cores, the one waited for needs this core: it is given up soon.
// Elsewhere it is kept for long: given up, it goes to another program for milliseconds, to wait for microseconds.
template <typename Done>
void spin(const Done& done, int patience) {
    for (int tries = 0; !done(); ++tries) {
        if (tries < patience)
            relax();
        else
            sched_yield();
    }
}

int cores() {  // that this process may use
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

constexpr auto SPIN = std::chrono::microseconds(300);  // more than the engine does between two steps

}  // namespace

ThreadPool::ThreadPool(int threads)
    : size_(threads), patience_(threads <= cores() ? 1 << 20 : 1 << 10), process_(getpid()) {
    try {
        for (int thread = 1; thread < size_; ++thread) threads_.emplace_back([this, thread] { work(thread); });
    } catch (...) {  // the system refuses more threads: end those that started, then say so
        closing_ = true;
        ++round_;
        round_.notify_all();
        for (std::thread& thread : threads_) thread.join();
        throw;
    }
}

ThreadPool::~ThreadPool() {
    if (getpid() != process_) {  // nobody to wait for
        for (std::thread& thread : threads_) thread.detach();
        return;
    }
    closing_ = true;
    ++round_;
    round_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(const std::function<void(int)>& task) {
    task_ = &task;
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    task(0);
    barrier();
}

void ThreadPool::barrier() {
    if (size_ == 1) return;
    const uint32_t passed = passed_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == static_cast<uint32_t>(size_) - 1) {
        arrived_.store(0, std::memory_order_relaxed);
        passed_.store(passed + 1, std::memory_order_release);
    } else {
        spin([&] { return passed_.load(std::memory_order_acquire) != passed; }, patience_);
    }
}

void ThreadPool::work(int thread) {
    for (uint32_t seen = 0;;) {
        const auto until = std::chrono::steady_clock::now() + SPIN;
        while (round_.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() < until) relax();
        round_.wait(seen, std::memory_order_acquire);
        if (closing_) return;
        ++seen;  // run() returns only when every thread has done its task: no round is missed
        (*task_)(thread);
        barrier();
    }
}

}  // namespace quipu
