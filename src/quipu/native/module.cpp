// The Python face of the kernels. Everything is checked here: what passes cannot make a kernel read or write outside
// of its memory.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>

#include "experts.h"
#include "pack.h"
#include "steps.h"
#include "vision.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace quipu;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using WritableBytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void require(bool holds, const std::string& message) {
    if (!holds) throw std::invalid_argument(message);
}

bool supports(const std::string& isa) {
#if defined(QUIPU_X86)
    __builtin_cpu_init();
    if (isa == "avx512")
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
    if (isa == "avx2")
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
    return isa == "portable";
}

const Kernels& kernels_named(const std::string& isa) {
    require(supports(isa), "this processor does not run " + isa + " kernels");
#if defined(QUIPU_X86)
    if (isa == "avx512") return avx512_kernels;
    if (isa == "avx2") return avx2_kernels;
#endif
    return portable_kernels;
}

std::vector<std::string> instruction_sets() {  // the best first
    std::vector<std::string> found;
    for (const char* isa : {"avx512", "avx2", "portable"})
        if (supports(isa)) found.push_back(isa);
    return found;
}

size_t packed_bytes(const std::string& kind, int rows, int cols) {
    require(rows > 0 && cols > 0, "a matrix has at least one row and one column");
    return (static_cast<size_t>(rows) + TILE - 1) / TILE * TileLayout(kind_named(kind), cols).bytes;
}

std::tuple<double, double> pack_rows(const std::string& stored, Bytes rows, int count, int cols,
                                     const std::string& kind, WritableBytes packed) {
    require(count > 0 && cols > 0, "a matrix has at least one row and one column");
    require(rows.size() == count * stored_row_bytes(stored, cols), "the rows are not of the size that they should be");
    require(packed.size() == packed_bytes(kind, count, cols), "the packed memory is not of the size that it should be");
    nb::gil_scoped_release release;
    const PackError error = pack(stored, rows.data(), count, cols, kind_named(kind), packed.data());
    return {error.squared_error, error.squared};
}

uint32_t checksum_of(Bytes data, uint32_t start) {
    nb::gil_scoped_release release;
    return checksum(data.data(), data.size(), start);
}

CacheKind cache_kind(const std::string& name) {
    if (name == "f32") return CacheKind::F32;
    if (name == "f16") return CacheKind::F16;
    require(name == "int8", "a KV cache is f32, f16 or int8");
    return CacheKind::INT8;
}

Extent extent_named(const std::string& name) {
    if (name == "all") return Extent::ALL;
    if (name == "gathered") return Extent::GATHERED;
    require(name == "scored", "an extent is all, gathered or scored");
    return Extent::SCORED;
}

// No model comes near these. They keep products of sizes within their types, whatever is asked for.
constexpr int MOST_COLUMNS = 1 << 26, MOST_HEAD_SIZE = 1 << 12, MOST_HEADS = 1 << 12, MOST_BLOCKS = 1 << 26;
constexpr int MOST_EXPERTS = 1 << 12;
constexpr int64_t MOST_POSITIONS = int64_t{1} << 30;

// Parts of a plan, as Python holds them: they keep their plan alive, and no other takes them.
class PythonPlan;
struct BufferHandle {
    const PythonPlan* plan;
    Buffer* buffer;
};
struct WeightHandle {
    const PythonPlan* plan;
    const Weight* weight;
};
struct CacheHandle {
    const PythonPlan* plan;
    LayerCache* cache;
};
struct RoutingHandle {
    const PythonPlan* plan;
    std::shared_ptr<Routing> routing;
};

class PythonPlan {
public:
    PythonPlan(int threads, const std::string& isa) : plan_(kernels_named(isa), checked(threads)) {}

    BufferHandle buffer(int cols) {
        require(cols > 0 && cols <= MOST_COLUMNS, "a buffer has from 1 to 2^26 columns");
        const std::lock_guard lock(mutex_);
        return {this, plan_.buffer(cols)};
    }

    WeightHandle weight(const std::string& kind, int rows, int cols, Bytes data) {
        require(data.size() == packed_bytes(kind, rows, cols), "the packed weight is not of the size of its shape");
        require(reinterpret_cast<uintptr_t>(data.data()) % 64 == 0, "a packed weight begins at a multiple of 64 bytes");
        require(cols <= MOST_COLUMNS, "a weight has at most 2^26 columns");
        const std::lock_guard lock(mutex_);
        held_.push_back(nb::cast(data));
        return {this, plan_.weight(kind_named(kind), rows, cols, data.data())};
    }

    CacheHandle cache(const std::string& kind, int kv_heads, int head_size, int blocks, bool chunked) {
        require(kv_heads > 0 && head_size > 0 && head_size % 2 == 0 && blocks > 0, "a cache has even heads and blocks");
        require(kv_heads <= MOST_HEADS && head_size <= MOST_HEAD_SIZE && blocks <= MOST_BLOCKS,
                "a cache has at most 2^12 heads of 2^12 and 2^26 blocks");
        const std::lock_guard lock(mutex_);
        LayerCache* made = plan_.cache(cache_kind(kind), kv_heads, head_size, blocks, chunked);
        int& least = chunked ? chunk_blocks_ : blocks_;
        least = std::min(least, blocks);  // every cache must hold every block of a step
        return {this, made};
    }

    RoutingHandle routing(int experts) {
        require(experts > 0 && experts <= MOST_EXPERTS, "there are from 1 to 2^12 experts");
        return {this, std::make_shared<Routing>(experts)};
    }

    void embed(WeightHandle table, BufferHandle out) {
        check_owned(table, out);
        require(table.weight->cols == out.buffer->cols(), "the embedding is not as wide as its buffer");
        vocabulary_ = std::min(vocabulary_, table.weight->rows);  // every table must hold every token
        require(!all_given_, "a plan has one beginning");
        given_cols_ = out.buffer->cols();
        add(embed_step(table.weight, out.buffer));
    }

    void angles(const std::vector<float>& frequencies, BufferHandle out, int chunk) {
        check_owned(out);
        require(frequencies.size() <= MOST_COLUMNS && static_cast<int>(frequencies.size()) * 2 == out.buffer->cols(),
                "angles want two columns a frequency");
        check_chunk(chunk);
        add(angles_step(frequencies, chunk, out.buffer));
        add(quantise_step(out.buffer, Extent::ALL));
    }

    void gather(BufferHandle in, BufferHandle out) {
        check_owned(in, out);
        require(in.buffer != out.buffer, "rows are gathered into another buffer");
        require(in.buffer->cols() == out.buffer->cols(), "gathered rows are as wide as those they come from");
        add(gather_step(in.buffer, out.buffer));
    }

    void rms_norm(BufferHandle in, Floats weight, float epsilon, BufferHandle out, const std::string& extent) {
        check_owned(in, out);
        require(in.buffer->cols() == out.buffer->cols() && static_cast<int>(weight.size()) == in.buffer->cols(),
                "a norm has one weight a column");
        held_.push_back(nb::cast(weight));
        add(rms_norm_step(in.buffer, weight.data(), epsilon, out.buffer, extent_named(extent)));
    }

    void linear(const std::vector<WeightHandle>& weights, BufferHandle in, BufferHandle out, bool add,
                const std::string& extent) {
        check_owned(in, out);
        require(in.buffer != out.buffer, "a product is written to another buffer");
        this->add(linear_step(product_of(weights, in, out), in.buffer, out.buffer, add, extent_named(extent)));
        this->add(quantise_step(out.buffer, extent_named(extent)));
    }

    void rotate_append(BufferHandle qkv, BufferHandle angles, CacheHandle cache, int heads, bool pairs,
                       std::optional<float> norm_epsilon, std::optional<float> query_scale) {
        check_owned(angles, cache);
        require(angles.buffer->cols() == cache.cache->head_size, "angles are of another head size");
        require(!norm_epsilon || (*norm_epsilon >= 0 && std::isfinite(*norm_epsilon)), "a norm's epsilon is 0 or more");
        require(!query_scale || (*query_scale > 0 && std::isfinite(*query_scale)), "queries are scaled by more than 0");
        place(qkv, cache, heads, {angles.buffer, pairs, norm_epsilon.value_or(-1), 1, 0, query_scale.value_or(0)});
    }

    void append(BufferHandle qkv, CacheHandle cache, int heads, double temperature_floor, double temperature_scale) {
        require(temperature_floor > 0 && std::isfinite(temperature_floor) && std::isfinite(temperature_scale),
                "a temperature's floor is above 0");
        place(qkv, cache, heads, {nullptr, false, -1, temperature_floor, temperature_scale});
    }

    void attention(BufferHandle qkv, CacheHandle cache, int heads, BufferHandle out, int chunk, bool whole) {
        check_owned(qkv, cache, out);
        check_heads(qkv, cache, heads);
        require(out.buffer->cols() == heads * cache.cache->head_size, "attention gives head_size columns a head");
        check_chunk(chunk);
        require(chunk == 0 || !whole, "who sees all of a sequence does not see a chunk of it");
        const std::lock_guard lock(mutex_);
        add_attention(plan_, qkv.buffer, cache.cache, heads, chunk, whole, out.buffer);
    }

    void given(BufferHandle out) {
        check_owned(out);
        require(vocabulary_ == NONE && !all_given_, "a plan has one beginning");
        given_cols_ = out.buffer->cols();
        all_given_ = true;
        vocabulary_ = NONE - 1;  // tokens are not looked at
        add(given_step(out.buffer));
    }

    void table(Rows values, BufferHandle out, bool add) {
        check_owned(out);
        require(values.shape(0) > 0 && static_cast<int>(values.shape(1)) == out.buffer->cols(),
                "a table is as wide as the rows it is for");
        require(values.shape(0) <= MOST_POSITIONS, "a table has a row for each position");
        held_.push_back(nb::cast(values));
        this->add(table_step({values.data(), static_cast<int>(values.shape(0))}, out.buffer, add));
        this->add(quantise_step(out.buffer, Extent::ALL));
    }

    void layer_norm(BufferHandle in, Floats weight, Floats bias, float epsilon, BufferHandle out) {
        check_owned(in, out);
        const int cols = in.buffer->cols();
        require(out.buffer->cols() == cols && static_cast<int>(weight.size()) == cols &&
                    static_cast<int>(bias.size()) == cols,
                "a norm has one weight and one bias a column");
        held_.push_back(nb::cast(weight));
        held_.push_back(nb::cast(bias));
        add(layer_norm_step(in.buffer, weight.data(), bias.data(), epsilon, out.buffer));
    }

    void gelu(BufferHandle in, BufferHandle out, std::optional<Floats> bias) {
        check_owned(in, out);
        require(in.buffer->cols() == out.buffer->cols(), "what comes out is as wide as what goes in");
        require(!bias || static_cast<int>(bias->size()) == in.buffer->cols(), "there is one bias a column");
        if (bias) held_.push_back(nb::cast(*bias));
        add(gelu_step(in.buffer, bias ? bias->data() : nullptr, out.buffer));
    }

    void swiglu(BufferHandle gate_up, BufferHandle out) {
        check_owned(gate_up, out);
        require(gate_up.buffer->cols() / 2 >= out.buffer->cols(), "gate and up are as wide as what comes out");
        add(swiglu_step(gate_up.buffer, out.buffer));
    }

    void route(BufferHandle logits, BufferHandle in, RoutingHandle routing, BufferHandle out) {
        check_owned(logits, in, routing, out);
        require(logits.buffer->cols() >= routing.routing->experts, "there is a logit for each expert");
        require(in.buffer->cols() == out.buffer->cols(), "routed rows are as wide as those they come from");
        require(in.buffer != out.buffer && logits.buffer != out.buffer, "rows are routed into another buffer");
        routing.routing->routed = true;
        add(route_step(logits.buffer, in.buffer, routing.routing, out.buffer));
    }

    void expert_linear(const std::vector<std::vector<WeightHandle>>& experts, RoutingHandle routing, BufferHandle in,
                       BufferHandle out) {
        check_routed(routing, in, out);
        require(static_cast<int>(experts.size()) == routing.routing->experts, "each expert has weights of its own");
        std::vector<std::vector<const Weight*>> given;
        for (const auto& weights : experts) {
            given.push_back(product_of(weights, in, out));
            const auto same = [](const Weight* one, const Weight* other) { return one->rows == other->rows; };
            require(std::equal(given.back().begin(), given.back().end(), given[0].begin(), given[0].end(), same),
                    "the weights of all experts are of one shape");
        }
        add(expert_linear_step(given, routing.routing, in.buffer, out.buffer));
        add(quantise_step(out.buffer, Extent::ALL));
    }

    void add_routed(RoutingHandle routing, BufferHandle in, BufferHandle out) {
        check_routed(routing, in, out);
        require(in.buffer->cols() == out.buffer->cols(), "rows are as wide as those they are added to");
        add(add_routed_step(routing.routing, in.buffer, out.buffer));
        add(quantise_step(out.buffer, Extent::ALL));
    }

    void run(Integers tokens, Integers counts, Integers starts, Integers blocks, Integers block_counts, Integers rows,
             int scored, std::optional<Integers> chunk_blocks, std::optional<Integers> given_rows,
             std::optional<Rows> given, std::optional<std::tuple<int, int>> part) {
        Batch batch;
        batch.tokens.assign(tokens.data(), tokens.data() + tokens.size());
        batch.blocks.assign(blocks.data(), blocks.data() + blocks.size());
        batch.rows.assign(rows.data(), rows.data() + rows.size());
        require(vocabulary_ < NONE, "a plan begins with an embedding");
        require(counts.size() == starts.size() && counts.size() == block_counts.size(), "a span has three numbers");
        for (int32_t token : batch.tokens)
            require(token >= 0 && token < vocabulary_, "a token is not in the vocabulary");
        for (int32_t block : batch.blocks) require(block >= 0 && block < blocks_, "a block is not in the cache");
        const bool chunked = chunk_blocks_ != NONE;
        if (chunk_blocks) batch.chunk_blocks.assign(chunk_blocks->data(), chunk_blocks->data() + chunk_blocks->size());
        require(batch.chunk_blocks.size() == (chunked ? batch.blocks.size() : 0),
                "chunk_blocks are as many as blocks where a cache is chunked, none elsewhere");
        for (int32_t block : batch.chunk_blocks)
            require(block >= 0 && block < chunk_blocks_, "a block is not in the chunked cache");
        for (int32_t row : batch.rows) require(row >= 0 && row < batch.count(), "a row is not in the step");
        require(scored >= 0 && scored <= static_cast<int>(rows.size()), "scored rows are the first of all rows");
        batch.scored = scored;
        int64_t first = 0, first_block = 0;
        for (size_t place = 0; place < counts.size(); ++place) {
            const int64_t count = counts.data()[place], start = starts.data()[place];
            const int64_t room = block_counts.data()[place];
            require(start + count <= MOST_POSITIONS, "positions are below 2^30");
            const bool held = (blocks_ == NONE && !chunked) || (start + count + BLOCK - 1) / BLOCK <= room;  // no cache, no blocks
            require(count > 0 && start >= 0 && room >= 0 && held,
                    "the blocks of a span do not hold its positions");
            require(first + count <= batch.count() && first_block + room <= static_cast<int64_t>(batch.blocks.size()),
                    "spans are longer than what they are parts of");
            batch.spans.push_back({static_cast<int>(first), static_cast<int>(count), static_cast<int>(start),
                                   static_cast<int>(first_block)});
            for (int64_t t = 0; t < count; ++t) {
                batch.positions.push_back(static_cast<int32_t>(start + t));
                batch.span_of.push_back(static_cast<int>(place));
            }
            first += count;
            first_block += room;
        }
        require(first == batch.count() && first > 0, "every token of a step is in a span");
        take_given(batch, given_rows, given);
        const auto [from, to] = part.value_or(std::tuple(0, plan_.steps()));
        require(0 <= from && from <= to && to <= plan_.steps(), "a part is of the steps there are");
        nb::gil_scoped_release release;
        const std::lock_guard lock(mutex_);
        plan_.run(batch, from, to);
    }

    int steps() const { return plan_.steps(); }

    // A copy of the first `rows` rows.
    nb::ndarray<nb::numpy, float, nb::ndim<2>> read(BufferHandle from, size_t rows) {
        check_owned(from);
        const size_t cols = from.buffer->cols();
        float* copy;
        {
            nb::gil_scoped_release release;
            const std::lock_guard lock(mutex_);
            require(rows <= static_cast<size_t>(from.buffer->rows()), "no step had so many rows");
            copy = new float[std::max<size_t>(rows * cols, 1)];
            if (rows > 0) std::copy_n(from.buffer->values(), rows * cols, copy);
        }
        nb::capsule owner(copy, [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
        return {copy, {rows, cols}, owner};
    }

private:
    static int checked(int threads) {
        require(threads >= 1 && threads <= 1024, "threads are from 1 to 1024");
        return threads;
    }

    template <typename... Handles>
    void check_owned(const Handles&... handles) const {
        require(((handles.plan == this) && ...), "this belongs to another plan");
    }

    void add(std::unique_ptr<Step> step) {
        const std::lock_guard lock(mutex_);
        plan_.add(std::move(step));
    }

    std::vector<const Weight*> product_of(const std::vector<WeightHandle>& weights, BufferHandle in, BufferHandle out) {
        std::vector<const Weight*> given;
        int64_t rows = 0;
        for (const WeightHandle& each : weights) {
            check_owned(each);
            require(each.weight->cols == in.buffer->cols(), "a weight is as wide as what it multiplies");
            given.push_back(each.weight);
            rows += each.weight->rows;
        }
        require(rows == out.buffer->cols(), "the rows of the weights are the columns of what comes out");
        return given;
    }

    void place(BufferHandle qkv, CacheHandle cache, int heads, Placement placement) {
        check_owned(qkv, cache);
        check_heads(qkv, cache, heads);
        add(append_step(qkv.buffer, cache.cache, heads, placement));
        add(quantise_step(qkv.buffer, Extent::ALL));
    }

    void check_routed(RoutingHandle routing, BufferHandle in, BufferHandle out) const {
        check_owned(routing, in, out);
        require(in.buffer != out.buffer, "what experts make is written to another buffer");
        require(routing.routing->routed, "tokens are routed before experts have them");
    }

    // Rows of `given` stand in for the embeddings of tokens `given_rows`.
    void take_given(Batch& batch, const std::optional<Integers>& given_rows, const std::optional<Rows>& given) const {
        require(given.has_value() == given_rows.has_value(), "given rows have places");
        require(given || !all_given_, "every token of this plan is given");
        if (!given) return;
        require(given->shape(0) == given_rows->size() && static_cast<int>(given->shape(1)) == given_cols_,
                "given rows are as many as their places, and as wide as embeddings");
        batch.given_of.assign(batch.count(), -1);
        for (size_t place = 0; place < given_rows->size(); ++place) {
            const int32_t token = given_rows->data()[place];
            require(token >= 0 && token < batch.count(), "a given row has a place in the step");
            batch.given_of[token] = static_cast<int>(place);
        }
        const auto lacking = std::find(batch.given_of.begin(), batch.given_of.end(), -1);
        require(!all_given_ || lacking == batch.given_of.end(), "every token of this plan is given");
        batch.given = given->data();
        batch.given_cols = given_cols_;
    }

    static void check_chunk(int chunk) { require(chunk >= 0, "a chunk is a number of positions, or 0 for none"); }

    static void check_heads(BufferHandle qkv, CacheHandle cache, int heads) {
        const LayerCache& layer = *cache.cache;
        require(heads > 0 && heads <= MOST_HEADS && heads % layer.kv_heads == 0, "heads share key heads evenly");
        require(qkv.buffer->cols() == (heads + 2 * layer.kv_heads) * layer.head_size,
                "queries, keys and values are one row of whole heads");
    }

    static constexpr int NONE = std::numeric_limits<int>::max();

    std::vector<nb::object> held_;  // memory that weights lie in
    std::mutex mutex_;              // a step runs without the GIL: nothing else touches the plan meanwhile
    Plan plan_;
    int vocabulary_ = NONE, blocks_ = NONE, chunk_blocks_ = NONE;  // what every table and every cache holds
    int given_cols_ = 0;                                           // of rows that may stand in for embeddings
    bool all_given_ = false;
};

}  // namespace

NB_MODULE(_kernels, module) {
    // Models that a program still holds when it ends are no news to its user.
    nb::set_leak_warnings(false);
    module.attr("BLOCK_SIZE") = BLOCK;
    module.attr("ATTENTION_PIECE") = ATTENTION_PIECE;
    module.def("instruction_sets", &instruction_sets);
    module.def("packed_bytes", &packed_bytes, "kind"_a, "rows"_a, "cols"_a);
    module.def("pack", &pack_rows, "stored"_a, "rows"_a, "count"_a, "cols"_a, "kind"_a,
               "packed"_a.noconvert());  // a converted copy would be written instead
    module.def("checksum", &checksum_of, "data"_a, "start"_a = 0);
    nb::class_<BufferHandle>(module, "Buffer");
    nb::class_<WeightHandle>(module, "Weight");
    nb::class_<CacheHandle>(module, "Cache");
    nb::class_<RoutingHandle>(module, "Routing");
    nb::class_<PythonPlan>(module, "Plan")
        .def(nb::init<int, const std::string&>(), "threads"_a, "isa"_a)
        .def("buffer", &PythonPlan::buffer, nb::keep_alive<0, 1>(), "cols"_a)
        .def("weight", &PythonPlan::weight, nb::keep_alive<0, 1>(), "kind"_a, "rows"_a, "cols"_a, "data"_a)
        .def("cache", &PythonPlan::cache, nb::keep_alive<0, 1>(), "kind"_a, "kv_heads"_a, "head_size"_a, "blocks"_a,
             "chunked"_a = false)
        .def("routing", &PythonPlan::routing, nb::keep_alive<0, 1>(), "experts"_a)
        .def("embed", &PythonPlan::embed, "table"_a, "out"_a)
        .def("angles", &PythonPlan::angles, "frequencies"_a, "out"_a, "chunk"_a = 0)
        .def("gather", &PythonPlan::gather, "source"_a, "out"_a)
        .def("rms_norm", &PythonPlan::rms_norm, "source"_a, "weight"_a, "epsilon"_a, "out"_a, "extent"_a = "all")
        .def("linear", &PythonPlan::linear, "weights"_a, "source"_a, "out"_a, "add"_a = false, "extent"_a = "all")
        .def("rotate_append", &PythonPlan::rotate_append, "qkv"_a, "angles"_a, "cache"_a, "heads"_a,
             "pairs"_a = false, "norm_epsilon"_a = nb::none(), "query_scale"_a = nb::none())
        .def("append", &PythonPlan::append, "qkv"_a, "cache"_a, "heads"_a, "temperature_floor"_a = 1.0,
             "temperature_scale"_a = 0.0)
        .def("attention", &PythonPlan::attention, "qkv"_a, "cache"_a, "heads"_a, "out"_a, "chunk"_a = 0,
             "whole"_a = false)
        .def("given", &PythonPlan::given, "out"_a)
        .def("table", &PythonPlan::table, "values"_a, "out"_a, "add"_a = false)
        .def("layer_norm", &PythonPlan::layer_norm, "source"_a, "weight"_a, "bias"_a, "epsilon"_a, "out"_a)
        .def("gelu", &PythonPlan::gelu, "source"_a, "out"_a, "bias"_a = nb::none())
        .def("swiglu", &PythonPlan::swiglu, "gate_up"_a, "out"_a)
        .def("route", &PythonPlan::route, "logits"_a, "source"_a, "routing"_a, "out"_a)
        .def("expert_linear", &PythonPlan::expert_linear, "experts"_a, "routing"_a, "source"_a, "out"_a)
        .def("add_routed", &PythonPlan::add_routed, "routing"_a, "source"_a, "out"_a)
        .def("run", &PythonPlan::run, "tokens"_a, "counts"_a, "starts"_a, "blocks"_a, "block_counts"_a, "rows"_a,
             "scored"_a, "chunk_blocks"_a = nb::none(), "given_rows"_a = nb::none(), "given"_a = nb::none(),
             "part"_a = nb::none())
        .def_prop_ro("steps", &PythonPlan::steps)
        .def("read", &PythonPlan::read, "source"_a, "rows"_a);
}
