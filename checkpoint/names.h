#pragma once
// One model, three namings: the release's (the canonical one), Hugging Face's in-memory names, and
// the hybrid that transformers' save_pretrained writes ("model." before release names, with
// exceptions).
#include <optional>
#include <string>
#include <vector>

#include "core/named_tensor.h"

namespace braid {

/// The release name of a key in any of the three namings, e.g.
/// "model.layers.1.self_attn.q_a_proj.weight" -> "layers.1.attn.wq_a.weight"; nothing for a key
/// that no naming has. Hugging Face's stacked experts are several tensors and have no such name:
/// see below.
std::optional<std::string> release_name(const std::string& key);

/// Whether a key is, in any of the namings, a tensor of a model or a stack of them.
bool names_a_tensor(const std::string& key);

struct ReleaseTensors {
  std::vector<NamedTensor> tensors;
  std::vector<std::string> unknown;  // keys that no naming has, in the order given
};

/// Renames tensors key by key, so that namings may be mixed. Stacked experts are taken apart into
/// views:
/// "...mlp.experts.gate_up_proj" [E, 2F, D] -> "...ffn.experts.e.w1.weight" (rows 0..F) and
/// "...w3.weight" (rows F..2F), [F, D] each; "...mlp.experts.down_proj" [E, D, F] ->
/// "...w2.weight". Throws Error when two keys mean the same tensor or a stack has another shape.
ReleaseTensors release_tensors(const std::vector<NamedTensor>& tensors);

/// Where Hugging Face keeps a tensor in memory.
struct HfPlace {
  std::string name;      ///< "model.layers.3.self_attn.sinks", "...mlp.experts.gate_up_proj"
  int64_t expert = -1;   ///< its index in a stack [E, rows, columns]; -1: not in a stack
  int64_t half = 0;      ///< gate_up_proj: 0 = the first half of an expert's rows (w1), 1 = w3
  bool in_half = false;  ///< gate_up_proj
};

/// The place of a parameter with this release name (no scales); nothing for mtp.*, which Hugging
/// Face has not, and for names that no model has.
std::optional<HfPlace> hf_place(const std::string& release_name);

}  // namespace braid
