#include "steps.h"

#include <algorithm>
#include <cmath>

#include "product.h"

namespace quipu {
namespace {

int count(const Context& context, Extent extent) {
    switch (extent) {
        case Extent::ALL: return context.batch.count();
        case Extent::GATHERED: return static_cast<int>(context.batch.rows.size());
        case Extent::SCORED: break;
    }
    return context.batch.scored;
}

// Calls work(t) for this thread's part of the rows of `extent`.
template <typename Work>
void each_row(const Context& context, Extent extent, Share share, const Work& work) {
    if (extent == Extent::ALL)
        share.tokens(work);
    else
        share.each(count(context, extent), work);
}

struct Embed : Step {
    const Weight* table;
    Buffer* out;
    Embed(const Weight* table, Buffer* out) : table(table), out(out) {}
    bool local() const override { return true; }
    void run(const Context& context, Share share, int) override {
        const Activations to = out->activations();
        share.tokens([&](int t) {
            if (const float* given = context.batch.given_row(t); given != nullptr)
                std::copy_n(given, out->cols(), out->row(t));
            else
                context.kernels.embed(*table, context.batch.tokens[t], out->row(t));
            if (to.quanta != nullptr) context.kernels.quantise(out->row(t), to, t);
        });
    }
};

struct Gather : Step {
    Buffer *in, *out;
    Gather(Buffer* in, Buffer* out) : in(in), out(out) {}
    bool needed(const Context& context) const override { return !context.batch.rows.empty(); }
    void run(const Context& context, Share share, int) override {
        const Activations to = out->activations();
        share.each(count(context, Extent::GATHERED), [&](int place) {
            std::copy_n(in->row(context.batch.rows[place]), in->cols(), out->row(place));
            if (to.quanta != nullptr) context.kernels.quantise(out->row(place), to, place);
        });
    }
};

struct RmsNorm : Step {
    Buffer* in;
    const float* weight;
    float epsilon;
    Buffer* out;
    Extent extent;
    RmsNorm(Buffer* in, const float* weight, float epsilon, Buffer* out, Extent extent)
        : in(in), weight(weight), epsilon(epsilon), out(out), extent(extent) {}
    bool needed(const Context& context) const override { return count(context, extent) > 0; }
    bool local() const override { return extent == Extent::ALL; }
    void run(const Context& context, Share share, int) override {
        const Activations to = out->activations();
        each_row(context, extent, share, [&](int t) { context.kernels.rms_norm(in->row(t), weight, epsilon, to, t); });
    }
};

struct Linear : Step {
    Product product;
    Buffer *in, *out;
    bool add;
    Extent extent;
    Linear(std::vector<const Weight*> weights, Buffer* in, Buffer* out, bool add, Extent extent)
        : product(std::move(weights), in), in(in), out(out), add(add), extent(extent) {}
    bool needed(const Context& context) const override { return count(context, extent) > 0; }
    bool local() const override { return extent == Extent::ALL; }
    void run(const Context& context, Share share, int) override {
        if (!context.by_token() || extent != Extent::ALL)
            return share.ranges(product.tiles, [&](int first, int last) {
                product.multiply(context, in, {0, count(context, extent)}, first, last, out, add);
            });
        const std::vector<Range> own = share.blocks();
        product.multiply_near(context, in, own, 0, product.tiles, out, add);
    }
};

// Cosines and sines of every token's angles, once for all layers: [cosines | sines], head_size / 2 of each.
struct Angles : Step {
    std::vector<float> frequencies;
    int chunk;
    Buffer* out;
    Angles(std::vector<float> frequencies, int chunk, Buffer* out)
        : frequencies(std::move(frequencies)), chunk(chunk), out(out) {}
    bool local() const override { return true; }
    void run(const Context& context, Share share, int) override {
        share.tokens([&](int t) {
            // Who looks no further back than a chunk sees distances within it: they are exact far into a text, where
            // float32 is off by half a radian.
            const int position = chunk > 0 ? context.batch.positions[t] % chunk : context.batch.positions[t];
            float *cosine = out->row(t), *sine = cosine + frequencies.size();
            for (size_t pair = 0; pair < frequencies.size(); ++pair) {
                // The product in float32, as in the reference implementations.
                const double angle = static_cast<float>(position) * frequencies[pair];
                cosine[pair] = static_cast<float>(std::cos(angle));
                sine[pair] = static_cast<float>(std::sin(angle));
            }
        });
    }
};

struct Append : Step {
    Buffer* qkv;
    LayerCache* cache;
    int heads;
    Placement placement;
    Append(Buffer* qkv, LayerCache* cache, int heads, Placement placement)
        : qkv(qkv), cache(cache), heads(heads), placement(placement) {}
    bool local() const override { return true; }
    void run(const Context& context, Share share, int) override {
        const int kv_heads = cache->kv_heads;
        if (context.by_token())
            return share.tokens([&](int t) {
                for (int head = 0; head < kv_heads; ++head) append(context, t, head);
            });
        share.ranges(context.batch.count() * kv_heads, [&](int first, int last) {
            for (int item = first; item < last; ++item) append(context, item / kv_heads, item % kv_heads);
        });
    }

private:
    // A token's key head with the queries that share it.
    void append(const Context& context, int t, int head) {
        const Batch& batch = context.batch;
        const int size = cache->head_size, kv_heads = cache->kv_heads, group = heads / kv_heads;
        const int position = batch.positions[t];
        const float usual = 1.0f / std::sqrt(static_cast<float>(size));
        const float scale = temperature(position) * (placement.query_scale > 0 ? placement.query_scale : usual);
        float* query = qkv->row(t) + static_cast<size_t>(head) * group * size;
        for (int each = 0; each < group; ++each, query += size) place(context, t, query, scale);
        float* key = qkv->row(t) + static_cast<size_t>(heads + head) * size;
        place(context, t, key, 1.0f);
        const int block = batch.table(*cache, batch.spans[batch.span_of[t]])[position / BLOCK];
        context.kernels.append(*cache, head, block, position % BLOCK, key, key + static_cast<size_t>(kv_heads) * size);
    }

    void place(const Context& context, int t, float* head, float scale) {
        const int size = cache->head_size;
        if (placement.angles == nullptr) {
            for (int d = 0; d < size; ++d) head[d] *= scale;
            return;
        }
        const bool norm = placement.norm_epsilon >= 0;
        const auto rotate = placement.pairs ? context.kernels.rotate_pairs : context.kernels.rotate;
        const float *cosine = placement.angles->row(t), *sine = cosine + size / 2;
        rotate(head, cosine, sine, size, norm ? 1.0f : scale);
        if (norm) context.kernels.norm_head(head, size, placement.norm_epsilon, scale);
    }

    float temperature(int position) const {
        const double steps = std::floor((position + 1.0) / placement.temperature_floor);
        return static_cast<float>(1 + placement.temperature_scale * std::log1p(steps));
    }
};

// What the two parts of attention share for one batch.
struct AttentionItems {
    struct Item {
        AttentionWork work;
        int token;       // first row of `out`
        int piece;       // of a split one; -1: all of it
        size_t partial;  // of a split one: where its partial lies
    };
    struct Merge {
        int token, head, pieces;
        size_t partial;
    };
    Buffer* qkv;
    LayerCache* cache;
    int heads, chunk;
    bool whole;
    Buffer* out;
    std::vector<Item> items;
    std::vector<std::vector<Item>> owned;  // of each thread, where tokens are dealt out
    std::vector<Merge> merges;
    std::vector<float> partials;
    std::vector<std::vector<float>> scratch;  // of each thread

    int group() const { return heads / cache->kv_heads; }

    void prepare(const Context& context) {
        const Batch& batch = context.batch;
        items.clear();
        merges.clear();
        owned.assign(context.threads, {});
        if (scratch.size() < static_cast<size_t>(context.threads))
            scratch.resize(context.threads, std::vector<float>(attention_scratch(cache->head_size)));
        size_t partial = 0;
        const size_t width = static_cast<size_t>(group()) * (2 + cache->head_size);
        for (const Span& span : batch.spans) {
            if (span.count == 1) {
                partial += width * cache->kv_heads * one_token(batch, span, partial, width);
                continue;
            }
            for (int first = 0, count; first < span.count; first += count) {
                const int token = span.first + first;
                count = std::min(TOKENS, span.count - first);
                if (context.by_token()) count = std::min(count, context.block - token % context.block);
                std::vector<Item>& to = context.by_token() ? owned[context.owner(token)] : items;
                for (int head = 0; head < cache->kv_heads; ++head)
                    to.push_back({work(batch, span, first, count, head), token, -1, 0});
            }
        }
        if (partials.size() < partial) partials.resize(partial);
        // The longest first: what is left at the end is short.
        std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return cost(a) > cost(b); });
    }

    void run(const Context& context, Share share, int thread) {
        for (const Item& item : owned[thread]) attend(context, item, thread);
        share.each(static_cast<int>(items.size()), [&](int place) { attend(context, items[place], thread); });
    }

    void merge(const Context& context, Share share, int thread) {
        share.each(static_cast<int>(merges.size()), [&](int place) {
            const Merge& each = merges[place];
            context.kernels.merge_pieces(partials.data() + each.partial, each.pieces, group(), cache->head_size,
                                         scratch[thread].data(), to(each.token, each.head));
        });
    }

private:
    static constexpr int TOKENS = 16;  // of a prompt, in one item

    void attend(const Context& context, Item item, int thread) {
        item.work.scratch = scratch[thread].data();
        if (item.piece >= 0)
            context.kernels.attend_piece(item.work, item.piece, partials.data() + item.partial);
        else
            context.kernels.attend(item.work, to(item.token, item.work.head), out->cols());
    }

    static long cost(const Item& item) {
        return item.piece >= 0 ? ATTENTION_PIECE
                               : static_cast<long>(item.work.tokens) * (item.work.first_position + item.work.tokens);
    }

    float* to(int token, int head) {
        return out->row(token) + static_cast<size_t>(head) * group() * cache->head_size;
    }

    AttentionWork work(const Batch& batch, const Span& span, int first, int tokens, int head) {
        const float* queries =
            qkv->row(span.first + first) + static_cast<size_t>(head) * group() * cache->head_size;
        return {cache, batch.table(*cache, span), head, group(), span.start + first, tokens, chunk,
                whole ? span.start + span.count : 0, queries,
                static_cast<size_t>(qkv->cols()), nullptr};
    }

    // A token that reads several pieces: one item for each. Returns how many there are; 0 if it is not split.
    int one_token(const Batch& batch, const Span& span, size_t partial, size_t width) {
        const int first = chunk > 0 ? span.start / chunk * chunk / ATTENTION_PIECE : 0;
        const int pieces = span.start / ATTENTION_PIECE + 1 - first;
        for (int head = 0; head < cache->kv_heads; ++head) {
            const AttentionWork whole = work(batch, span, 0, 1, head);
            if (pieces == 1) {
                items.push_back({whole, span.first, -1, 0});
                continue;
            }
            const size_t at = partial + width * pieces * head;
            for (int piece = 0; piece < pieces; ++piece)
                items.push_back({whole, span.first, first + piece, at + width * piece});
            merges.push_back({span.first, head, pieces, at});
        }
        return pieces == 1 ? 0 : pieces;
    }
};

struct Attention : Step {
    std::shared_ptr<AttentionItems> shared;
    explicit Attention(std::shared_ptr<AttentionItems> shared) : shared(std::move(shared)) {}
    void prepare(const Context& context) override { shared->prepare(context); }
    void run(const Context& context, Share share, int thread) override { shared->run(context, share, thread); }
};

struct MergePieces : Step {
    std::shared_ptr<AttentionItems> shared;
    explicit MergePieces(std::shared_ptr<AttentionItems> shared) : shared(std::move(shared)) {}
    bool needed(const Context&) const override { return !shared->merges.empty(); }
    void run(const Context& context, Share share, int thread) override { shared->merge(context, share, thread); }
};

// Of what several threads write into one row: quantising it comes after all of them.
struct Quantise : Step {
    Buffer* buffer;
    Extent extent;
    Quantise(Buffer* buffer, Extent extent) : buffer(buffer), extent(extent) {}
    bool needed(const Context& context) const override {
        return buffer->activations().quanta != nullptr && count(context, extent) > 0;
    }
    bool local() const override { return extent == Extent::ALL; }
    void run(const Context& context, Share share, int) override {
        const Activations to = buffer->activations();
        each_row(context, extent, share, [&](int t) { context.kernels.quantise(buffer->row(t), to, t); });
    }
};

struct Swiglu : Step {
    Buffer *gate_up, *out;
    Swiglu(Buffer* gate_up, Buffer* out) : gate_up(gate_up), out(out) {}
    bool local() const override { return true; }
    void run(const Context& context, Share share, int) override {
        const Activations to = out->activations();
        share.tokens([&](int t) { context.kernels.swiglu(gate_up->row(t), to, t); });
    }
};

}  // namespace

std::unique_ptr<Step> embed_step(const Weight* table, Buffer* out) { return std::make_unique<Embed>(table, out); }

std::unique_ptr<Step> gather_step(Buffer* in, Buffer* out) { return std::make_unique<Gather>(in, out); }

std::unique_ptr<Step> rms_norm_step(Buffer* in, const float* weight, float epsilon, Buffer* out, Extent extent) {
    return std::make_unique<RmsNorm>(in, weight, epsilon, out, extent);
}

std::unique_ptr<Step> linear_step(std::vector<const Weight*> weights, Buffer* in, Buffer* out, bool add, Extent extent) {
    return std::make_unique<Linear>(std::move(weights), in, out, add, extent);
}

std::unique_ptr<Step> angles_step(std::vector<float> frequencies, int chunk, Buffer* out) {
    return std::make_unique<Angles>(std::move(frequencies), chunk, out);
}

std::unique_ptr<Step> append_step(Buffer* qkv, LayerCache* cache, int heads, Placement placement) {
    return std::make_unique<Append>(qkv, cache, heads, placement);
}

std::unique_ptr<Step> quantise_step(Buffer* buffer, Extent extent) {
    return std::make_unique<Quantise>(buffer, extent);
}

void add_attention(Plan& plan, Buffer* qkv, LayerCache* cache, int heads, int chunk, bool whole, Buffer* out) {
    auto shared = std::make_shared<AttentionItems>();
    shared->qkv = qkv, shared->cache = cache, shared->heads = heads, shared->chunk = chunk, shared->whole = whole;
    shared->out = out;
    plan.add(std::make_unique<Attention>(shared));
    plan.add(std::make_unique<MergePieces>(shared));
    plan.add(quantise_step(out, Extent::ALL));
}

std::unique_ptr<Step> swiglu_step(Buffer* gate_up, Buffer* out) { return std::make_unique<Swiglu>(gate_up, out); }

}  // namespace quipu
