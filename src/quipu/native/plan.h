// A model as a list of steps over named buffers, run once for each batch. An architecture is which steps there are and
// in which order; engine/native_runner.py says that. Adding one adds steps here at most.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "thread_pool.h"

namespace quipu {

// One sequence's part of a step: tokens [first, first + count) of the batch, from position `start`; `blocks` is where
// its cache blocks begin in Batch::blocks and in Batch::chunk_blocks.
struct Span {
    int first, count, start, blocks;
};

struct Batch {
    std::vector<int32_t> tokens, positions, blocks;
    std::vector<int32_t> chunk_blocks;  // as many, of the caches whose layers look no further back than a chunk
    std::vector<Span> spans;
    std::vector<int32_t> rows;  // tokens whose final state is wanted
    int scored = 0;             // the first so many of them for their logits
    std::vector<int> span_of;   // of each token

    // Rows of float32 that stand in for embeddings, `given_cols` wide; -1 where a token has none. Empty for none at all.
    std::vector<int> given_of;
    const float* given = nullptr;
    int given_cols = 0;

    int count() const { return static_cast<int>(tokens.size()); }
    // The row that stands in for token `t`, or null.
    const float* given_row(int t) const {
        if (given_of.empty() || given_of[t] < 0) return nullptr;
        return given + static_cast<size_t>(given_of[t]) * given_cols;
    }
    // The blocks of a sequence in a cache, by position.
    const int32_t* table(const LayerCache& cache, const Span& span) const {
        return (cache.chunked ? chunk_blocks : blocks).data() + span.blocks;
    }
};

// Vectors of all tokens of a step under one name. Grows with the largest step.
class Buffer {
public:
    explicit Buffer(int cols) : cols_(cols) {}
    int cols() const { return cols_; }
    int rows() const { return rows_; }  // that there is memory for
    float* values() { return values_.get(); }
    float* row(int t) { return values_.get() + static_cast<size_t>(t) * cols_; }
    Activations activations() const;
    // A reader with quantised weights: producers quantise from the next step on.
    void want_quanta() {
        if (!quantised_) rows_ = 0;  // what an earlier step reserved has no room for them
        quantised_ = true;
    }
    void reserve(int rows);

private:
    struct Free {
        void operator()(void* memory) const;
    };
    int cols_, rows_ = 0;
    bool quantised_ = false;
    std::unique_ptr<float[], Free> values_, scales_, scaled_sums_;
    std::unique_ptr<int8_t[], Free> quanta_;
    std::unique_ptr<int32_t[], Free> sums_;
};

// Tokens [first, last).
struct Range {
    int first, last;
};

struct Context {
    const Kernels& kernels;
    const Batch& batch;
    int threads;
    // Of a long step every thread takes whole tokens through a layer: lines that one core has written reach another
    // one slowly. Tokens are dealt out in blocks of so many, for attention costs the more the later a token is. 0: a
    // short step, of which every thread takes some rows of every matrix.
    int block;

    bool by_token() const { return block > 0; }
    int owner(int token) const { return token / block % threads; }
};

// The part of a step's work that a thread takes; every item is taken once.
class Share {
public:
    Share(std::atomic<int>& next, const Context& context, int thread) : next_(next), context_(context), thread_(thread) {}

    // Calls work(item) for items [0, items), for whoever comes.
    template <typename Work>
    void each(int items, const Work& work) {
        for (int item; (item = next_.fetch_add(1, std::memory_order_relaxed)) < items;) work(item);
    }
    // Calls work(first, last) for ranges that together are [0, items): a few for each thread, so that one that the
    // machine holds up does not hold up all.
    template <typename Work>
    void ranges(int items, const Work& work) {
        const int length = std::max(1, items / (context_.threads * 2));
        for (int first; (first = next_.fetch_add(length, std::memory_order_relaxed)) < items;)
            work(first, std::min(first + length, items));
    }
    // Calls work(token) for the tokens of the batch, its own where they are dealt out.
    template <typename Work>
    void tokens(const Work& work) {
        if (!context_.by_token()) return each(context_.batch.count(), work);
        for (const Range own : blocks())
            for (int token = own.first; token < own.last; ++token) work(token);
    }
    // The blocks of tokens that are its own.
    std::vector<Range> blocks() const {
        std::vector<Range> found;
        const int count = context_.batch.count(), step = context_.block * context_.threads;
        for (int first = thread_ * context_.block; first < count; first += step)
            found.push_back({first, std::min(first + context_.block, count)});
        return found;
    }

private:
    std::atomic<int>& next_;
    const Context& context_;
    int thread_;
};

class Step {
public:
    virtual ~Step() = default;
    // What one thread prepares before the others start: memory that depends on the batch.
    virtual void prepare(const Context&) {}
    // False where this batch needs nothing of it.
    virtual bool needed(const Context&) const { return true; }
    // True if, where tokens are dealt out, a thread reads and writes nothing but rows of its own ones.
    virtual bool local() const { return false; }
    // Called in every thread at once.
    virtual void run(const Context&, Share share, int thread) = 0;
};

class Plan {
public:
    Plan(const Kernels& kernels, int threads);

    Buffer* buffer(int cols);
    const Weight* weight(Kind kind, int rows, int cols, const uint8_t* data);
    LayerCache* cache(CacheKind kind, int kv_heads, int head_size, int blocks, bool chunked);
    void add(std::unique_ptr<Step> step) { steps_.push_back(std::move(step)); }

    int steps() const { return static_cast<int>(steps_.size()); }
    // Steps [first, last): what they read of earlier ones is what a run of those left in the buffers.
    void run(Batch& batch, int first, int last);

private:
    const Kernels& kernels_;
    ThreadPool pool_;
    std::vector<std::unique_ptr<Buffer>> buffers_;
    std::vector<std::unique_ptr<Weight>> weights_;
    std::vector<std::unique_ptr<LayerCache>> caches_;
    struct Memory;
    std::vector<std::shared_ptr<Memory>> memory_;
    std::vector<std::unique_ptr<Step>> steps_;
    struct alignas(64) Counter {
        std::atomic<int> next{0};
    };
    std::vector<Counter> counters_;
    std::vector<Step*> needed_;  // of this batch
};

}  // namespace quipu
