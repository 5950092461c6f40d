// How weights lie in memory for the kernels: sixteen rows side by side, so that one instruction feeds sixteen outputs.
//
// A matrix [rows, cols] is cut into tiles of 16 rows (the last filled up with zeros) and groups of 32 columns. A tile
// is one run of bytes that starts at a multiple of 64, group after group, so that a product reads memory in one
// direction, as the processor fetches it ahead. A group of a quantised kind has its scales, 16 halves, then (kinds
// with a minimum) the minima, then (five-bit kinds) the fifth bits, then the quanta: byte 4 r + b of vector j is row
// r, column 4 j + b, which is what a dot product of bytes takes.
//
//   Q4_0 w = d (q - 8)   Q4_1 w = d q + m   Q5_0 w = d (q - 16)   Q5_1 w = d q + m   Q8_0 w = d q, stored as q + 128
//   F32, F16, BF16: column by column, 16 values each
//
// Nothing of a GGUF block is lost: its scale, minimum and quanta are the same bits in another order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quipu {

enum class Kind : int { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 };

constexpr int TILE = 16;   // rows
constexpr int GROUP = 32;  // columns

constexpr bool quantised(Kind kind) { return kind >= Kind::Q4_0; }

// Where the parts of a group begin, in bytes from its start, and how long a group and a tile are.
struct TileLayout {
    size_t minima = 0, fifth_bits = 0, quanta = 0, group = 0, bytes = 0;

    TileLayout() = default;
    TileLayout(Kind kind, size_t cols) {
        constexpr size_t HALVES = TILE * 2;
        const bool has_minimum = kind == Kind::Q4_1 || kind == Kind::Q5_1;
        const bool five_bits = kind == Kind::Q5_0 || kind == Kind::Q5_1;
        if (quantised(kind)) {
            minima = HALVES;
            fifth_bits = minima + (has_minimum ? HALVES : 0);
            quanta = fifth_bits + (five_bits ? 64 : 0);
            group = quanta + (kind == Kind::Q8_0 ? 512 : 256);
            bytes = (cols + GROUP - 1) / GROUP * group;
        } else {
            bytes = cols * TILE * (kind == Kind::F32 ? 4 : 2);
        }
        bytes = (bytes + 63) / 64 * 64;
    }
};

struct Weight {
    Kind kind = Kind::F32;
    int rows = 0, cols = 0;
    const uint8_t* data = nullptr;
    TileLayout layout;

    int tiles() const { return (rows + TILE - 1) / TILE; }
    int groups() const { return (cols + GROUP - 1) / GROUP; }
    const uint8_t* tile(int index) const { return data + static_cast<size_t>(index) * layout.bytes; }
};

}  // namespace quipu
