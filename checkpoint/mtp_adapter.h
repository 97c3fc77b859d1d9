#pragma once
// Adapters of the MTP block. Hugging Face's models have no such block, so PEFT's files have no keys
// for them: they lie beside those, in a safetensors file of Braid's own that PEFT passes over.
#include <filesystem>
#include <vector>

#include "checkpoint/peft.h"

namespace braid {

inline constexpr const char* kMtpAdapter = "mtp_adapter.safetensors";

/// Makes the file: tensors under the names that checkpoints have (core/parameter_names.h), and in
/// the metadata the alpha of each matrix, of experts under the name with a star
/// ("braid.alpha.mtp.0.ffn.experts.*.w2.weight"). Matrices w1 and w3 of an expert have one A.
void write_mtp_adapter(const std::filesystem::path& file,
                       const std::vector<LowRankUpdate>& updates);

/// What write_mtp_adapter() wrote, float32; `dora`: with magnitudes. Throws Error, with file and
/// name, for tensors that are missing, unexpected, misshapen or not finite.
std::vector<LowRankUpdate> read_mtp_adapter(const std::filesystem::path& file,
                                            bool rslora,
                                            bool dora);

}  // namespace braid
