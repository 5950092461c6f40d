#include "plan.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>

namespace quipu {
namespace {

template <typename T>
T* allocate(size_t count) {
    const size_t bytes = (std::max<size_t>(count, 1) * sizeof(T) + 63) / 64 * 64;
    void* memory = std::aligned_alloc(64, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
}

// Context::block for a step of `count` tokens: as many blocks for each thread, none much longer than 16.
int block_of_tokens(int count, int threads) {
    constexpr int LEAST = 8, USUAL = 16;  // tokens: kernels multiply eight at once
    if (threads == 1 || count < LEAST * threads) return 0;
    const int blocks = threads * std::max(1, count / (USUAL * threads));
    return (count + blocks - 1) / blocks;
}

}  // namespace

void Buffer::Free::operator()(void* memory) const { std::free(memory); }

Activations Buffer::activations() const {
    return {cols_, values_.get(), quanta_.get(), scales_.get(), sums_.get(), scaled_sums_.get()};
}

void Buffer::reserve(int rows) {
    if (rows <= rows_) return;
    rows_ = 0;  // until all of it is there
    values_.reset(allocate<float>(static_cast<size_t>(rows) * cols_));
    if (quantised_) {
        const size_t groups = static_cast<size_t>(rows) * ((cols_ + GROUP - 1) / GROUP);
        quanta_.reset(allocate<int8_t>(groups * GROUP));
        scales_.reset(allocate<float>(groups * 2));
        scaled_sums_.reset(allocate<float>(groups));
        sums_.reset(allocate<int32_t>(groups * 2));
    }
    rows_ = rows;
}

// Zeroed pages that the system gives when they are first written.
struct Plan::Memory {
    explicit Memory(size_t bytes) : size(std::max<size_t>(bytes, 1)) {
        at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) throw std::bad_alloc();
    }
    ~Memory() { munmap(at, size); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    void* at;
    size_t size;
};

Plan::Plan(const Kernels& kernels, int threads) : kernels_(kernels), pool_(threads) {}

Buffer* Plan::buffer(int cols) {
    buffers_.push_back(std::make_unique<Buffer>(cols));
    return buffers_.back().get();
}

const Weight* Plan::weight(Kind kind, int rows, int cols, const uint8_t* data) {
    weights_.push_back(std::make_unique<Weight>(Weight{kind, rows, cols, data, TileLayout(kind, cols)}));
    return weights_.back().get();
}

LayerCache* Plan::cache(CacheKind kind, int kv_heads, int head_size, int blocks, bool chunked) {
    auto layer = std::make_unique<LayerCache>();
    layer->kind = kind;
    layer->kv_heads = kv_heads;
    layer->head_size = head_size;
    layer->blocks = blocks;
    layer->chunked = chunked;
    const size_t elements = static_cast<size_t>(blocks) * kv_heads * BLOCK * head_size;
    const size_t item = kind == CacheKind::F32 ? 4 : kind == CacheKind::F16 ? 2 : 1;
    const auto take = [this](size_t bytes) {
        memory_.push_back(std::make_shared<Memory>(bytes));
        return memory_.back()->at;
    };
    layer->keys = static_cast<uint8_t*>(take(elements * item));
    layer->values = static_cast<uint8_t*>(take(elements * item));
    if (kind == CacheKind::INT8) {
        const size_t scales = static_cast<size_t>(blocks) * kv_heads * BLOCK * layer->scale_groups() * sizeof(float);
        layer->key_scales = static_cast<float*>(take(scales));
        layer->value_scales = static_cast<float*>(take(scales));
    }
    caches_.push_back(std::move(layer));
    return caches_.back().get();
}

void Plan::run(Batch& batch, int first, int last) {
    const Context context{kernels_, batch, pool_.size(), block_of_tokens(batch.count(), pool_.size())};
    const int most = std::max(batch.count(), static_cast<int>(batch.rows.size()));
    for (auto& buffer : buffers_) buffer->reserve(most);
    if (counters_.size() != steps_.size()) counters_ = std::vector<Counter>(steps_.size());
    for (Counter& counter : counters_) counter.next.store(0, std::memory_order_relaxed);
    needed_.clear();
    for (int place = first; place < last; ++place) {
        steps_[place]->prepare(context);
        if (steps_[place]->needed(context)) needed_.push_back(steps_[place].get());
    }
    const auto task = [&](int thread) {
        for (size_t place = 0; place < needed_.size(); ++place) {
            const bool alone = context.by_token() && place > 0 && needed_[place]->local() && needed_[place - 1]->local();
            if (place > 0 && !alone) pool_.barrier();
            needed_[place]->run(context, Share(counters_[place].next, context, thread), thread);
        }
    };
    pool_.run(task);
}

}  // namespace quipu
