// How weights lie in memory for the kernels: sixteen rows side by side, so that one instruction feeds sixteen outputs.
//
// A matrix [rows, cols] is cut into tiles of 16 rows (the last filled up with zeros) and groups of 32 columns. A tile
// is one run of bytes that starts at a multiple of 64: for quantised kinds first the scales of all its groups, 16
// halves each, then (kinds with a minimum) the minima, then (five-bit kinds) the fifth bits, then the quanta.
// In a group of quanta, byte 4 r + b of vector j is row r, column 4 j + b: what a dot product of bytes takes.
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

inline bool quantised(Kind kind) { return kind >= Kind::Q4_0; }

// Where the parts of a tile begin, in bytes from its start.
struct TileLayout {
    size_t minima = 0, fifth_bits = 0, quanta = 0, bytes = 0;

    TileLayout() = default;
    TileLayout(Kind kind, size_t cols) {
        if (!quantised(kind)) {
            bytes = cols * TILE * (kind == Kind::F32 ? 4 : 2);
            bytes = (bytes + 63) / 64 * 64;
            return;
        }
        const size_t groups = (cols + GROUP - 1) / GROUP;
        const size_t halves = (groups * TILE * 2 + 63) / 64 * 64;
        const bool has_minimum = kind == Kind::Q4_1 || kind == Kind::Q5_1;
        const bool five_bits = kind == Kind::Q5_0 || kind == Kind::Q5_1;
        minima = halves;
        fifth_bits = minima + (has_minimum ? halves : 0);
        quanta = fifth_bits + (five_bits ? groups * 64 : 0);
        bytes = quanta + groups * (kind == Kind::Q8_0 ? 512 : 256);
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
