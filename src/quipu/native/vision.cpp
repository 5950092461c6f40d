#include "vision.h"

#include <algorithm>
#include <functional>

namespace quipu {
namespace {

struct Given : Step {
    Buffer* out;
    explicit Given(Buffer* out) : out(out) {}
    bool local() const override { return true; }
    void run(const Context& context, Share share, int) override {
        const Activations to = out->activations();
        share.tokens([&](int t) {
            std::copy_n(context.batch.given_row(t), out->cols(), out->row(t));
            if (to.quanta != nullptr) context.kernels.quantise(out->row(t), to, t);
        });
    }
};

struct Place : Step {
    Table table;
    Buffer* out;
    bool add;
    Place(Table table, Buffer* out, bool add) : table(table), out(out), add(add) {}
    bool local() const override { return true; }
    void run(const Context& context, Share share, int) override {
        const int cols = out->cols();
        share.tokens([&](int t) {
            const float* row = table.values + static_cast<size_t>(context.batch.positions[t] % table.rows) * cols;
            if (add)
                std::transform(row, row + cols, out->row(t), out->row(t), std::plus<>());
            else
                std::copy_n(row, cols, out->row(t));
        });
    }
};

struct LayerNorm : Step {
    Buffer* in;
    const float *weight, *bias;
    float epsilon;
    Buffer* out;
    LayerNorm(Buffer* in, const float* weight, const float* bias, float epsilon, Buffer* out)
        : in(in), weight(weight), bias(bias), epsilon(epsilon), out(out) {}
    bool local() const override { return true; }
    void run(const Context& context, Share share, int) override {
        const Activations to = out->activations();
        share.tokens([&](int t) { context.kernels.layer_norm(in->row(t), weight, bias, epsilon, to, t); });
    }
};

struct Gelu : Step {
    Buffer* in;
    const float* bias;
    Buffer* out;
    Gelu(Buffer* in, const float* bias, Buffer* out) : in(in), bias(bias), out(out) {}
    bool local() const override { return true; }
    void run(const Context& context, Share share, int) override {
        const Activations to = out->activations();
        share.tokens([&](int t) { context.kernels.gelu(in->row(t), bias, to, t); });
    }
};

}  // namespace

std::unique_ptr<Step> given_step(Buffer* out) { return std::make_unique<Given>(out); }

std::unique_ptr<Step> table_step(Table table, Buffer* out, bool add) { return std::make_unique<Place>(table, out, add); }

std::unique_ptr<Step> layer_norm_step(Buffer* in, const float* weight, const float* bias, float epsilon, Buffer* out) {
    return std::make_unique<LayerNorm>(in, weight, bias, epsilon, out);
}

std::unique_ptr<Step> gelu_step(Buffer* in, const float* bias, Buffer* out) {
    return std::make_unique<Gelu>(in, bias, out);
}

}  // namespace quipu
