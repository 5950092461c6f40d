// Mixtures of experts (Shazeer et al. 2017): each token goes to one of several feed-forward parts.
#pragma once

#include <memory>
#include <vector>

#include "plan.h"

namespace quipu {

// Which expert each token of a step goes to. Tokens are sorted by expert, so that an expert's are rows side by side and
// its weights are read once; no other weights are read at all. Every thread sorts for itself, which takes less time
// than to wait for one that does.
struct Routing {
    struct Sorted {
        std::vector<int> expert, place;  // of each token
        std::vector<int> begins;         // [experts + 1]: the places of each expert's tokens
        std::vector<int> used;           // experts that have any, those with the most first
    };
    explicit Routing(int experts) : experts(experts) {}
    int experts;
    bool routed = false;  // by a step of the plan
    std::vector<Sorted> threads;
};

// Chooses the expert whose logit is the largest, the first of equal ones; logits are the last columns of `logits`. The
// token, scaled by the sigmoid of its logit, becomes the row of `out` that is its place.
std::unique_ptr<Step> route_step(Buffer* logits, Buffer* in, std::shared_ptr<Routing> routing, Buffer* out);
// out[p] = [weights[0] in[p] | weights[1] in[p] | ...] of the expert whose place p is: `experts` has each one's weights.
std::unique_ptr<Step> expert_linear_step(const std::vector<std::vector<const Weight*>>& experts,
                                         std::shared_ptr<Routing> routing, Buffer* in, Buffer* out);
// out[t] += in[place of t].
std::unique_ptr<Step> add_routed_step(std::shared_ptr<Routing> routing, Buffer* in, Buffer* out);

}  // namespace quipu
