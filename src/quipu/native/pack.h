// From how checkpoints store weights to how kernels read them (formats.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "formats.h"

namespace quipu {

// What was lost: sums over all weights of (packed - stored)^2 and of stored^2. Both 0 where nothing can be.
struct PackError {
    double squared_error = 0, squared = 0;
};

// Bytes of a stored row of `cols` weights. Throws std::invalid_argument for a kind that is not known or whose blocks
// do not divide `cols`.
size_t stored_row_bytes(const std::string& stored, size_t cols);

// Packs rows [first, last) of `stored`, first a multiple of TILE, into `packed`, the whole matrix's memory. Lossless
// into the kind of the same name; Q4_K and Q5_K into Q4_1 and Q5_1 round the product of their two scales to a half;
// others are quantised anew, into Q8_0 or Q4_1. Throws std::invalid_argument for a pair that is neither.
PackError pack(const std::string& stored, const uint8_t* rows, size_t count, size_t cols, Kind kind, uint8_t* packed);

Kind kind_named(const std::string& name);

// CRC-32C (Castagnoli), as iSCSI has it.
uint32_t checksum(const uint8_t* data, size_t size, uint32_t start);

}  // namespace quipu
