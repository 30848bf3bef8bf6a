// A pool of threads that gives a future for each task.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

class Pool {
public:
    explicit Pool(unsigned n) {
        for (unsigned i = 0; i < n; i++)
            workers.emplace_back([this] { work(); });
    }
    ~Pool() {
        {
            std::lock_guard lock(mu);
            closed = true;
        }
        ready.notify_all();
        for (auto &w : workers)
            w.join();
    }
    template <class F> auto submit(F f) -> std::future<std::invoke_result_t<F>> {
        auto task = std::make_shared<std::packaged_task<std::invoke_result_t<F>()>>(std::move(f));
        auto result = task->get_future();
        {
            std::lock_guard lock(mu);
            queue.emplace_back([task] { (*task)(); });
        }
        ready.notify_one();
        return result;
    }

private:
    void work() {
        for (;;) {
            std::unique_lock lock(mu);
            ready.wait(lock, [this] { return closed || !queue.empty(); });
            if (queue.empty())
                return;
            auto task = std::move(queue.front());
            queue.pop_front();
            lock.unlock();
            task();
        }
    }
    std::mutex mu;
    std::condition_variable ready;
    std::deque<std::function<void()>> queue;
    std::vector<std::thread> workers;
    bool closed = false;
};
