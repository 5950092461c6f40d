// The product of some weights, one below the other, with the rows of a buffer: what steps divide among threads.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "plan.h"

namespace quipu {

struct Product {
    std::vector<const Weight*> weights;
    int tiles = 0;  // of all of them, counted through

    Product(std::vector<const Weight*> given, Buffer* in) : weights(std::move(given)) {
        for (const Weight* weight : weights) {
            tiles += weight->tiles();
            if (quantised(weight->kind)) in->want_quanta();
        }
    }

    // out[t] = [weights[0] in[t] | weights[1] in[t] | ...], or added to what is there, for some tokens and tiles.
    void multiply(const Context& context, Buffer* in, Range tokens, int first, int last, Buffer* out, bool add) const {
        const Activations x = in->activations().from(tokens.first);
        int begin = 0, column = 0;  // of the weight, among all tiles and in a row of `out`
        for (const Weight* weight : weights) {
            const int end = begin + weight->tiles();
            const int from = std::max(first, begin), to = std::min(last, end);
            if (from < to)
                context.kernels.multiply(*weight, x, tokens.last - tokens.first, from - begin, to - begin,
                                         out->row(tokens.first), out->cols(), column, add);
            begin = end;
            column += weight->rows;
        }
    }

    // The same, some tiles at a time: they stay in the nearest caches for all blocks of tokens.
    void multiply_near(const Context& context, Buffer* in, const std::vector<Range>& blocks, int first, int last,
                       Buffer* out, bool add) const {
        for (; first < last; first += NEAR)
            for (const Range block : blocks) multiply(context, in, block, first, std::min(first + NEAR, last), out, add);
    }

    static constexpr int NEAR = 8;
};

}  // namespace quipu
