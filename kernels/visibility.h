#pragma once
// Which keys a query sees, in memory that grows with the queries and not with their square.
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace braid {

/// Query s of row b sees the keys [first, end): both int64 [B, S]; none where end <= first. No
/// query sees more than `most`, where that is known on the host (else it is -1): kernels need less
/// memory.
struct KeyRange {
  at::Tensor first_BS, end_BS;
  int64_t most = -1;

  KeyRange to(at::Device device) const;
  KeyRange of_queries(int64_t first, int64_t count) const;
  /// No query sees more of `keys` keys.
  int64_t most_of(int64_t keys) const;
};

/// The compressed entries that queries see: those of `range` or, where `chosen_BSK` is defined,
/// the ones it lists: int64 [B, S, K], ascending, -1 behind the last.
struct SeenEntries {
  KeyRange range;
  at::Tensor chosen_BSK;

  SeenEntries to(at::Device device) const;
  SeenEntries of_queries(int64_t first, int64_t count) const;
  /// No query sees more of `entries` entries.
  int64_t most_of(int64_t entries) const;
  /// chosen_BSK as kernels read it, without gaps. They take a null pointer for no lists at all, so
  /// that lists without places get one, -1.
  at::Tensor lists() const;
};

/// Throws when a query sees one of the raw keys or of the entries that is not there. For kernels of
/// the CPU, which trust these numbers: it reads elements on the host. `op` begins the message.
void require_keys_exist(const char* op,
                        const KeyRange& window,
                        int64_t raw_keys,
                        const SeenEntries& seen,
                        int64_t entries);

/// The same as bool [B, S, keys].
at::Tensor mask_of(const KeyRange& range, int64_t keys);
at::Tensor mask_of(const SeenEntries& entries, int64_t count);

/// A mask bool [B, S, C] as lists.
SeenEntries entries_of(const at::Tensor& mask_BSC);

}  // namespace braid
