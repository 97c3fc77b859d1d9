#pragma once
#include <string_view>

namespace braid::testing {

// Each gives arbitrary bytes to a reader and returns whether it accepted them. A reader may refuse
// them with Error; whatever else escapes, and any contradiction in what was accepted
// (std::logic_error), is a bug.

/// Byte 0 chooses the compression, the longest line and the size of the pieces; the rest is JSONL.
bool read_jsonl(std::string_view bytes);

/// Samples for fine-tuning, one a line. The first two bytes choose their format ('h' = by their
/// keys, 'i' to 'o' = text to tokens) and the rules ('F' = the defaults).
bool read_samples(std::string_view bytes);

/// A configuration file, its base file and overrides, separated by NUL bytes.
bool read_yaml(std::string_view bytes);

/// A token store. Its magics and its digest are made right first.
bool read_token_store(std::string_view bytes);

/// A safetensors file, or its header alone (safetensors_fuzz.cpp).
bool read_safetensors(std::string_view bytes);

/// An adapter's folder, parted by NUL bytes: adapter_config.json (behind a '+', a JSON merge patch
/// of a sound one), the header of adapter_model.safetensors and, where there is a third part, that
/// of mtp_adapter.safetensors. What is accepted is also written and read again.
bool read_adapter(std::string_view bytes);

/// A tokenizer.json; behind a '+', a JSON merge patch of the one that stands for bytes.
bool read_tokenizer(std::string_view bytes);

}  // namespace braid::testing
