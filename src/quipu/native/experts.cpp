#include "experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "product.h"

namespace quipu {
namespace {

struct Route : Step {
    Buffer *logits, *in;
    std::shared_ptr<Routing> routing;
    Buffer* out;
    Route(Buffer* logits, Buffer* in, std::shared_ptr<Routing> routing, Buffer* out)
        : logits(logits), in(in), routing(std::move(routing)), out(out) {}
    void prepare(const Context& context) override { routing->threads.resize(context.threads); }
    void run(const Context& context, Share share, int thread) override {
        Routing::Sorted& sorted = routing->threads[thread];
        sort(context.batch.count(), sorted);
        const Activations to = out->activations();
        share.tokens([&](int t) {
            const float score = 1.0f / (1.0f + std::exp(-logits_of(t)[sorted.expert[t]]));
            const int place = sorted.place[t];
            std::transform(in->row(t), in->row(t) + in->cols(), out->row(place), [=](float x) { return x * score; });
            if (to.quanta != nullptr) context.kernels.quantise(out->row(place), to, place);
        });
    }

private:
    const float* logits_of(int t) const { return logits->row(t) + logits->cols() - routing->experts; }

    void sort(int count, Routing::Sorted& sorted) const {
        const int experts = routing->experts;
        sorted.expert.resize(count);
        sorted.place.resize(count);
        sorted.begins.assign(experts + 1, 0);
        for (int t = 0; t < count; ++t) {
            const float* row = logits_of(t);
            sorted.expert[t] = static_cast<int>(std::max_element(row, row + experts) - row);
            ++sorted.begins[sorted.expert[t] + 1];
        }
        sorted.used.clear();
        for (int expert = 0; expert < experts; ++expert)
            if (sorted.begins[expert + 1] > 0) sorted.used.push_back(expert);
        // What is left for the end is short.
        std::stable_sort(sorted.used.begin(), sorted.used.end(),
                         [&](int a, int b) { return sorted.begins[a + 1] > sorted.begins[b + 1]; });
        std::partial_sum(sorted.begins.begin(), sorted.begins.end(), sorted.begins.begin());
        std::vector<int> next(sorted.begins.begin(), sorted.begins.end() - 1);
        for (int t = 0; t < count; ++t) sorted.place[t] = next[sorted.expert[t]]++;
    }
};

struct ExpertLinear : Step {
    std::vector<Product> products;  // of each expert, as many tiles each
    std::shared_ptr<Routing> routing;
    Buffer *in, *out;
    ExpertLinear(const std::vector<std::vector<const Weight*>>& experts, std::shared_ptr<Routing> routing, Buffer* in,
                 Buffer* out)
        : routing(std::move(routing)), in(in), out(out) {
        for (const auto& weights : experts) products.emplace_back(weights, in);
    }
    void run(const Context& context, Share share, int thread) override {
        const Routing::Sorted& sorted = routing->threads[thread];
        const int tiles = products.front().tiles, used = static_cast<int>(sorted.used.size());
        // Long pieces are read fast, short ones leave no thread behind.
        const int piece = std::clamp(used * tiles / (context.threads * 8), Product::NEAR, 8 * Product::NEAR);
        const int pieces = (tiles + piece - 1) / piece;
        share.each(used * pieces, [&](int item) {
            const int expert = sorted.used[item / pieces], first = item % pieces * piece;
            products[expert].multiply_near(context, in, blocks(sorted.begins[expert], sorted.begins[expert + 1]), first,
                                           std::min(first + piece, tiles), out, false);
        });
    }

private:
    static constexpr int TOKENS = 16;  // whose vectors stay in the nearest cache

    static std::vector<Range> blocks(int first, int last) {
        std::vector<Range> found;
        for (; first < last; first += TOKENS) found.push_back({first, std::min(first + TOKENS, last)});
        return found;
    }
};

struct AddRouted : Step {
    std::shared_ptr<Routing> routing;
    Buffer *in, *out;
    AddRouted(std::shared_ptr<Routing> routing, Buffer* in, Buffer* out)
        : routing(std::move(routing)), in(in), out(out) {}
    bool local() const override { return true; }  // in what it writes; what it reads is of the step before
    void run(const Context&, Share share, int thread) override {
        const Routing::Sorted& sorted = routing->threads[thread];
        share.tokens([&](int t) {
            std::transform(out->row(t), out->row(t) + out->cols(), in->row(sorted.place[t]), out->row(t), std::plus<>());
        });
    }
};

}  // namespace

std::unique_ptr<Step> route_step(Buffer* logits, Buffer* in, std::shared_ptr<Routing> routing, Buffer* out) {
    return std::make_unique<Route>(logits, in, std::move(routing), out);
}

std::unique_ptr<Step> expert_linear_step(const std::vector<std::vector<const Weight*>>& experts,
                                         std::shared_ptr<Routing> routing, Buffer* in, Buffer* out) {
    return std::make_unique<ExpertLinear>(experts, std::move(routing), in, out);
}

std::unique_ptr<Step> add_routed_step(std::shared_ptr<Routing> routing, Buffer* in, Buffer* out) {
    return std::make_unique<AddRouted>(std::move(routing), in, out);
}

}  // namespace quipu
