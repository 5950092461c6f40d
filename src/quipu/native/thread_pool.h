// Threads that do one step together. Between the parts of a step they wait for each other by spinning, for what they
// wait for takes microseconds; between steps they spin briefly and then sleep, so that an idle engine uses no CPU.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace quipu {

class ThreadPool {
public:
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return size_; }

    // Calls task(thread) once in every thread, 0 being the caller's, and returns when all have.
    void run(const std::function<void(int)>& task);

    // Within a task: returns when every thread has come here.
    void barrier();

private:
    void work(int thread);

    const int size_;
    const int patience_;  // tries before a waiting thread gives its core up
    const pid_t process_;  // that the threads are in: a fork of it has none of them
    std::vector<std::thread> threads_;
    const std::function<void(int)>* task_ = nullptr;
    alignas(64) std::atomic<uint32_t> round_{0};  // a task is there when it changes
    alignas(64) std::atomic<uint32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> passed_{0};
    std::atomic<bool> closing_{false};
};

}  // namespace quipu
