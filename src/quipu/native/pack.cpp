#include "pack.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "lanes.h"

namespace quipu {
namespace {

// 32 weights of a row as they are stored: quanta with a scale and a minimum, or plain values.
struct Block {
    // EXACT: quanta, scale and minimum are the stored bits. ROUNDED: scale and minimum were rounded to halves, and the
    // values are there, too. VALUES: nothing but values.
    enum { EXACT, ROUNDED, VALUES } content = VALUES;
    int quanta[GROUP];
    uint16_t scale = 0, minimum = 0;
    float values[GROUP];
};

uint16_t half_of(const uint8_t* from) {
    uint16_t half;
    std::memcpy(&half, from, 2);
    return half;
}

struct Stored {
    const char* name;
    size_t weights, bytes;  // of a stored block
    Kind kind;              // what it becomes unless asked otherwise
    void (*read)(const uint8_t* block, int part, Block& out);  // `part`: 32 weights of it
};

void read_q4_0(const uint8_t* block, int, Block& out) {
    out.content = Block::EXACT;
    out.scale = half_of(block);
    for (int j = 0; j < 16; ++j) {
        out.quanta[j] = block[2 + j] & 15;
        out.quanta[j + 16] = block[2 + j] >> 4;
    }
}

void read_q4_1(const uint8_t* block, int, Block& out) {
    read_q4_0(block + 2, 0, out);
    out.scale = half_of(block);
    out.minimum = half_of(block + 2);
}

void read_five(const uint8_t* fifth, const uint8_t* low, Block& out) {
    uint32_t bits;
    std::memcpy(&bits, fifth, 4);
    for (int j = 0; j < 16; ++j) {
        out.quanta[j] = (low[j] & 15) | (bits >> j & 1) << 4;
        out.quanta[j + 16] = low[j] >> 4 | (bits >> (j + 16) & 1) << 4;
    }
}

void read_q5_0(const uint8_t* block, int, Block& out) {
    out.content = Block::EXACT;
    out.scale = half_of(block);
    read_five(block + 2, block + 6, out);
}

void read_q5_1(const uint8_t* block, int, Block& out) {
    out.content = Block::EXACT;
    out.scale = half_of(block);
    out.minimum = half_of(block + 2);
    read_five(block + 4, block + 8, out);
}

void read_q8_0(const uint8_t* block, int, Block& out) {
    out.content = Block::EXACT;
    out.scale = half_of(block);
    for (int j = 0; j < GROUP; ++j) out.quanta[j] = static_cast<int8_t>(block[2 + j]) + 128;
}

// Scale and minimum of 32 weights of a K block, from six bits each and two halves.
void read_k_scales(const uint8_t* block, int part, float& scale, float& minimum) {
    const uint8_t* six = block + 4;
    int factor, least;
    if (part < 4) {
        factor = six[part] & 63;
        least = six[part + 4] & 63;
    } else {
        factor = (six[part + 4] & 15) | (six[part - 4] >> 6) << 4;
        least = six[part + 4] >> 4 | (six[part] >> 6) << 4;
    }
    scale = half_bits_to_float(half_of(block)) * static_cast<float>(factor);
    minimum = -half_bits_to_float(half_of(block + 2)) * static_cast<float>(least);
}

void round_scales(Block& out, float scale, float minimum) {
    out.content = Block::ROUNDED;
    out.scale = float_to_half_bits(scale);
    out.minimum = float_to_half_bits(minimum);
    for (int j = 0; j < GROUP; ++j) out.values[j] = scale * static_cast<float>(out.quanta[j]) + minimum;
}

void read_q4_k(const uint8_t* block, int part, Block& out) {
    float scale, minimum;
    read_k_scales(block, part, scale, minimum);
    const uint8_t* bytes = block + 16 + 32 * (part / 2);
    for (int j = 0; j < GROUP; ++j) out.quanta[j] = part % 2 ? bytes[j] >> 4 : bytes[j] & 15;
    round_scales(out, scale, minimum);
}

void read_q5_k(const uint8_t* block, int part, Block& out) {
    float scale, minimum;
    read_k_scales(block, part, scale, minimum);
    const uint8_t *fifth = block + 16, *bytes = block + 48 + 32 * (part / 2);
    for (int j = 0; j < GROUP; ++j)
        out.quanta[j] = (part % 2 ? bytes[j] >> 4 : bytes[j] & 15) | (fifth[j] >> part & 1) << 4;
    round_scales(out, scale, minimum);
}

void read_q6_k(const uint8_t* block, int part, Block& out) {
    const int half = part / 4, strip = part % 4;
    const uint8_t *low = block + 64 * half + 32 * (strip & 1), *high = block + 128 + 32 * half;
    const int8_t* scales = reinterpret_cast<const int8_t*>(block + 192) + 8 * half + 2 * strip;
    const float scale = half_bits_to_float(half_of(block + 208));
    for (int j = 0; j < GROUP; ++j) {
        const int quantum = (strip < 2 ? low[j] & 15 : low[j] >> 4) | (high[j] >> 2 * strip & 3) << 4;
        out.values[j] = scale * static_cast<float>(scales[j / 16] * (quantum - 32));
    }
}

void read_f32(const uint8_t* block, int, Block& out) { std::memcpy(out.values, block, sizeof out.values); }

void read_f16(const uint8_t* block, int, Block& out) {
    for (int j = 0; j < GROUP; ++j) out.values[j] = half_bits_to_float(half_of(block + 2 * j));
}

void read_bf16(const uint8_t* block, int, Block& out) {
    for (int j = 0; j < GROUP; ++j) {
        const uint32_t bits = static_cast<uint32_t>(half_of(block + 2 * j)) << 16;
        std::memcpy(out.values + j, &bits, 4);
    }
}

constexpr Stored STORED[] = {
    {"F32", 1, 4, Kind::F32, read_f32},         {"F16", 1, 2, Kind::F16, read_f16},
    {"BF16", 1, 2, Kind::BF16, read_bf16},      {"Q4_0", 32, 18, Kind::Q4_0, read_q4_0},
    {"Q4_1", 32, 20, Kind::Q4_1, read_q4_1},    {"Q5_0", 32, 22, Kind::Q5_0, read_q5_0},
    {"Q5_1", 32, 24, Kind::Q5_1, read_q5_1},    {"Q8_0", 32, 34, Kind::Q8_0, read_q8_0},
    {"Q4_K", 256, 144, Kind::Q4_1, read_q4_k},  {"Q5_K", 256, 176, Kind::Q5_1, read_q5_k},
    {"Q6_K", 256, 210, Kind::Q8_0, read_q6_k},
};

const Stored& stored_named(const std::string& name) {
    for (const Stored& each : STORED)
        if (name == each.name) return each;
    throw std::invalid_argument("no stored kind is called " + name);
}

// ---- quantising

float dequantised(Kind kind, int quantum, float scale, float minimum) {
    switch (kind) {
        case Kind::Q4_0: return scale * static_cast<float>(quantum - 8);
        case Kind::Q5_0: return scale * static_cast<float>(quantum - 16);
        case Kind::Q8_0: return scale * static_cast<float>(quantum - 128);
        default: return scale * static_cast<float>(quantum) + minimum;
    }
}

// What a block cannot hold must not vanish on the way: it becomes no number.
void make_none(Block& block) {
    block.scale = block.minimum = 0x7e00;
    std::fill_n(block.quanta, GROUP, 1);
}

bool all_finite(const Block& block) {
    return std::all_of(block.values, block.values + GROUP, [](float value) { return std::isfinite(value); });
}

// To the nearest integer, the even one of two, for magnitudes far below 2^22. The library's function is a call for each
// weight, without which the loop around it is vectors.
inline float nearest(float value) {
    constexpr float MAGIC = 12582912.0f;  // 1.5 * 2^23
    return (value + MAGIC) - MAGIC;
}

void quantise_to_eight_bits(Block& block) {
    if (!all_finite(block)) return make_none(block);
    float most = 0;
    for (float value : block.values) most = std::max(most, std::fabs(value));
    block.scale = float_to_half_bits(most / 127.0f);
    const float scale = half_bits_to_float(block.scale);
    for (int j = 0; j < GROUP; ++j) {
        const float quantum = scale > 0 && std::isfinite(scale) ? nearest(block.values[j] / scale) : 0.0f;
        block.quanta[j] = static_cast<int>(std::clamp(quantum, -127.0f, 127.0f)) + 128;
    }
}

// Scale and minimum by least squares for given quanta; the best of a few first guesses of the scale, as llama.cpp's
// make_qkx2_quants searches.
void quantise_to_four_bits(Block& block) {
    if (!all_finite(block)) return make_none(block);
    const auto [low, high] = std::minmax_element(block.values, block.values + GROUP);
    const float least = *low, range = *high - *low;
    double best = std::numeric_limits<double>::infinity();
    block.scale = 0, block.minimum = float_to_half_bits(least);
    std::fill_n(block.quanta, GROUP, 0);
    if (!(range > 1e-7f)) return;  // the least halves have nothing left to tell apart
    for (int guess = 0; guess <= 10; ++guess) {
        const float inverse = (14.2f + 0.16f * static_cast<float>(guess)) / range;
        if (!(inverse > 0)) break;  // the range is infinite
        // Sums of whole numbers are exact; of others there are four at a time, which the compiler takes as vectors.
        float quanta[GROUP];
        int whole_q = 0, whole_qq = 0;
        double parts_v[4] = {}, parts_qv[4] = {};
        for (int j = 0; j < GROUP; ++j) quanta[j] = std::min(nearest((block.values[j] - least) * inverse), 15.0f);
        for (int j = 0; j < GROUP; ++j) {
            const int quantum = static_cast<int>(quanta[j]);
            whole_q += quantum, whole_qq += quantum * quantum;
        }
        for (int j = 0; j < GROUP; j += 4)
            for (int part = 0; part < 4; ++part) {
                parts_v[part] += block.values[j + part];
                parts_qv[part] += static_cast<double>(quanta[j + part]) * block.values[j + part];
            }
        const double count = GROUP, sum_q = whole_q, sum_qq = whole_qq;
        const double sum_v = (parts_v[0] + parts_v[1]) + (parts_v[2] + parts_v[3]);
        const double sum_qv = (parts_qv[0] + parts_qv[1]) + (parts_qv[2] + parts_qv[3]);
        const double determinant = count * sum_qq - sum_q * sum_q;
        if (!(determinant > 0)) continue;
        const uint16_t scale = float_to_half_bits(static_cast<float>((count * sum_qv - sum_q * sum_v) / determinant));
        const uint16_t minimum =
            float_to_half_bits(static_cast<float>((sum_qq * sum_v - sum_q * sum_qv) / determinant));
        const float step = half_bits_to_float(scale), floor = half_bits_to_float(minimum);
        double errors[4] = {};
        for (int j = 0; j < GROUP; j += 4)
            for (int part = 0; part < 4; ++part) {
                const double gone = step * quanta[j + part] + floor - block.values[j + part];
                errors[part] += gone * gone;
            }
        const double error = (errors[0] + errors[1]) + (errors[2] + errors[3]);
        if (error < best) {
            best = error;
            block.scale = scale, block.minimum = minimum;
            std::transform(quanta, quanta + GROUP, block.quanta, [](float quantum) { return static_cast<int>(quantum); });
        }
    }
    if (!std::isfinite(best)) make_none(block);
}

// ---- writing

void write_block(const Block& block, Kind kind, const TileLayout& layout, uint8_t* group, int lane) {
    std::memcpy(group + 2 * lane, &block.scale, 2);
    if (layout.fifth_bits > layout.minima) std::memcpy(group + layout.minima + 2 * lane, &block.minimum, 2);
    for (int col = 0; col < GROUP; ++col) {
        const int j = col / 4, place = 4 * lane + col % 4;
        if (kind == Kind::Q8_0) {
            group[layout.quanta + 64 * j + place] = static_cast<uint8_t>(block.quanta[col]);
            continue;
        }
        group[layout.quanta + 64 * (j % 4) + place] |= (block.quanta[col] & 15) << (j < 4 ? 0 : 4);
        if (layout.quanta > layout.fifth_bits)
            group[layout.fifth_bits + 8 * j + place / 8] |= (block.quanta[col] >> 4) << place % 8;
    }
}

void pack_floats(const Stored& stored, const uint8_t* row, size_t cols, uint8_t* tile, int lane) {
    for (size_t col = 0; col < cols; ++col)
        std::memcpy(tile + (col * TILE + lane) * stored.bytes, row + col * stored.bytes, stored.bytes);
}

// Group g of a row as a block of `kind`.
Block read_block(const Stored& stored, const uint8_t* from, size_t g, Kind kind) {
    Block block;
    stored.read(from, static_cast<int>(g * GROUP % std::max<size_t>(stored.weights, GROUP) / GROUP), block);
    if (kind == stored.kind && block.content != Block::VALUES) return block;
    if (block.content == Block::EXACT) {
        const float scale = half_bits_to_float(block.scale), least = half_bits_to_float(block.minimum);
        for (int j = 0; j < GROUP; ++j) block.values[j] = dequantised(stored.kind, block.quanta[j], scale, least);
    }
    block.content = Block::VALUES;
    kind == Kind::Q8_0 ? quantise_to_eight_bits(block) : quantise_to_four_bits(block);
    return block;
}

void add_error(const Block& block, Kind kind, size_t weights, PackError& error) {
    const float scale = half_bits_to_float(block.scale), least = half_bits_to_float(block.minimum);
    for (size_t j = 0; j < weights; ++j) {
        const double value = block.values[j], lost = dequantised(kind, block.quanta[j], scale, least) - value;
        error.squared_error += lost * lost;
        error.squared += value * value;
    }
}

void pack_row(const Stored& stored, const uint8_t* row, size_t cols, Kind kind, const TileLayout& layout,
              uint8_t* tile, int lane, PackError& error) {
    if (stored.weights == 1 && kind == stored.kind) return pack_floats(stored, row, cols, tile, lane);
    std::array<uint8_t, 4 * GROUP> tail{};
    for (size_t g = 0; g < (cols + GROUP - 1) / GROUP; ++g) {
        const size_t weights = std::min<size_t>(GROUP, cols - g * GROUP);
        const uint8_t* from = row + g * GROUP / stored.weights * stored.bytes;
        if (weights < GROUP) {  // plain values; the last group is filled up with zeros
            std::memcpy(tail.data(), from, weights * stored.bytes);
            from = tail.data();
        }
        const Block block = read_block(stored, from, g, kind);
        write_block(block, kind, layout, tile + g * layout.group, lane);
        if (block.content != Block::EXACT) add_error(block, kind, weights, error);
    }
}

}  // namespace

size_t stored_row_bytes(const std::string& name, size_t cols) {
    const Stored& stored = stored_named(name);
    if (cols % stored.weights != 0)
        throw std::invalid_argument(std::to_string(cols) + " columns are no whole blocks of " + name);
    return cols / stored.weights * stored.bytes;
}

PackError pack(const std::string& name, const uint8_t* rows, size_t count, size_t cols, Kind kind, uint8_t* packed) {
    const Stored& stored = stored_named(name);
    if (kind != stored.kind && kind != Kind::Q8_0 && kind != Kind::Q4_1)
        throw std::invalid_argument(name + " can be packed as it is, as Q8_0 or as Q4_1");
    const size_t row_bytes = stored_row_bytes(name, cols);
    const TileLayout layout(kind, cols);
    PackError error;
    for (size_t first = 0; first < count; first += TILE) {
        uint8_t* tile = packed + first / TILE * layout.bytes;
        std::memset(tile, 0, layout.bytes);
        for (size_t row = first; row < std::min(first + TILE, count); ++row)
            pack_row(stored, rows + row * row_bytes, cols, kind, layout, tile, static_cast<int>(row - first), error);
    }
    return error;
}

Kind kind_named(const std::string& name) {
    for (const Stored& each : STORED)
        if (name == each.name && (each.weights <= GROUP)) return each.kind;
    throw std::invalid_argument("no packed kind is called " + name);
}

uint32_t checksum(const uint8_t* data, size_t size, uint32_t start) {
    static const auto table = [] {
        std::array<std::array<uint32_t, 256>, 8> made{};
        for (uint32_t byte = 0; byte < 256; ++byte) {
            uint32_t value = byte;
            for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0);
            made[0][byte] = value;
        }
        for (int slice = 1; slice < 8; ++slice)
            for (int byte = 0; byte < 256; ++byte)
                made[slice][byte] = made[slice - 1][byte] >> 8 ^ made[0][made[slice - 1][byte] & 255];
        return made;
    }();
    uint32_t crc = ~start;
    for (; size >= 8; size -= 8, data += 8) {  // eight bytes at a time (Kounavis and Berry 2005)
        uint32_t low, high;
        std::memcpy(&low, data, 4), std::memcpy(&high, data + 4, 4);
        low ^= crc;
        crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
              table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
    }
    for (; size > 0; --size, ++data) crc = crc >> 8 ^ table[0][(crc ^ *data) & 255];
    return ~crc;
}

}  // namespace quipu
