#include "inference/generate.h"

#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "core/random.h"

namespace braid {
namespace {

using Batch = std::vector<Continuation>;
using Prompts = std::vector<std::vector<int64_t>>;

void require_possible(const Prompts& prompts, const GenerateOptions& options, int64_t longest) {
  require_valid(options.sampling);
  require(options.max_tokens >= 1 && options.num_samples >= 1 && options.batch_size >= 1,
          "[generate] max_tokens, num_samples and batch_size must be at least 1, got ",
          options.max_tokens,
          ", ",
          options.num_samples,
          " and ",
          options.batch_size);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto length = static_cast<int64_t>(prompts[i].size());
    require(length > 0, "[generate] prompt ", i, " has no tokens");
    require(length + options.max_tokens <= longest,
            "[generate] prompt ",
            i,
            ": ",
            length,
            " prompt tokens and ",
            options.max_tokens,
            " new ones exceed the model's max_position_embeddings ",
            longest);
  }
}

// A decode state has one length, so only prompts of equal length can share one.
std::vector<Batch> batches_of(const Prompts& prompts, const GenerateOptions& options) {
  std::map<std::size_t, std::vector<Batch>> by_length;
  for (std::size_t prompt = 0; prompt < prompts.size(); ++prompt) {
    auto& batches = by_length[prompts[prompt].size()];
    for (int64_t sample = 0; sample < options.num_samples; ++sample) {
      if (batches.empty() || static_cast<int64_t>(batches.back().size()) == options.batch_size) {
        batches.emplace_back();
      }
      batches.back().push_back({static_cast<int64_t>(prompt), sample});
    }
  }
  std::vector<Batch> result;
  for (auto& [length, batches] : by_length) {
    result.insert(result.end(), batches.begin(), batches.end());
  }
  return result;
}

uint64_t key_of(uint64_t seed, const Continuation& continuation) {
  const auto& [prompt, sample] = continuation;
  // The first one's purpose is as it was when there was only one.
  return random_key(seed,
                    prompt == 0 && sample == 0
                        ? std::string("generate")
                        : text("generate prompt ", prompt, " sample ", sample));
}

// Row i of the state becomes what row rows[i] was.
void take_rows(DecodeState& state, const at::Tensor& rows) {
  const auto take = [&rows](at::Tensor& tensor) {
    if (tensor.defined()) {
      tensor = tensor.index_select(0, rows.to(tensor.device(), /*non_blocking=*/true));
    }
  };
  for (auto& layer : state.layers) {
    take(layer.kv_BUH);
    for (auto* compressor : {&layer.compressor, &layer.indexer}) {
      take(compressor->projected_BUX);
      take(compressor->entries_BCH);
    }
  }
}

// On the host, where ids are drawn.
at::Tensor next_logits_BV(const Transformer& model, const at::Tensor& ids_BS, DecodeState& state) {
  return model.logits(model.forward(ids_BS, state).final_BSD.select(1, -1)).cpu();
}

// Reads each prompt once, then gives every continuation of it a row.
at::Tensor first_logits_BV(const Transformer& model,
                           const Prompts& prompts,
                           const Batch& batch,
                           DecodeState& state) {
  std::vector<int64_t> ids, rows;
  int64_t last_prompt = -1, count = 0;
  for (const auto& [prompt, sample] : batch) {
    if (prompt != last_prompt) {
      const auto& prompt_ids = prompts[static_cast<std::size_t>(prompt)];
      ids.insert(ids.end(), prompt_ids.begin(), prompt_ids.end());
      last_prompt = prompt;
      ++count;
    }
    rows.push_back(count - 1);
  }
  const auto logits = next_logits_BV(model, at::tensor(ids, at::kLong).view({count, -1}), state);
  const auto rows_B = at::tensor(rows, at::kLong);
  take_rows(state, rows_B);
  return logits.index_select(0, rows_B);
}

// The i-th id of each continuation.
std::vector<int64_t> drawn_ids(const at::Tensor& logits_BV,
                               const Batch& batch,
                               int64_t i,
                               const GenerateOptions& options) {
  std::vector<int64_t> ids;
  for (std::size_t row = 0; row < batch.size(); ++row) {
    const auto logits_V = logits_BV.select(0, static_cast<int64_t>(row));
    const double u = random_uniform(key_of(options.seed, batch[row]), static_cast<uint64_t>(i));
    ids.push_back(drawn_id(sampling_probabilities(logits_V, options.sampling), u));
  }
  return ids;
}

void generate_batch(const Transformer& model,
                    const Prompts& prompts,
                    Batch batch,
                    int64_t end_id,
                    const GenerateOptions& options,
                    const GenerationVisitor& visitor) {
  DecodeState state;
  auto logits_BV = first_logits_BV(model, prompts, batch, state);
  for (int64_t i = 0;; ++i) {
    auto drawn = drawn_ids(logits_BV, batch, i, options);
    visitor.agree(drawn);
    Batch unfinished;
    std::vector<int64_t> rows, ids;
    for (std::size_t row = 0; row < batch.size(); ++row) {
      const auto& continuation = batch[row];
      const int64_t id = drawn[row];
      if (id == end_id) {
        visitor.end(continuation, GenerationEnd::kEndToken);
      } else if (!visitor.token(continuation, id)) {
        visitor.end(continuation, GenerationEnd::kStopped);
      } else if (i + 1 == options.max_tokens) {
        visitor.end(continuation, GenerationEnd::kMaxTokens);
      } else {
        unfinished.push_back(continuation);
        rows.push_back(static_cast<int64_t>(row));
        ids.push_back(id);
      }
    }
    if (unfinished.empty()) {
      return;
    }
    if (unfinished.size() < batch.size()) {
      take_rows(state, at::tensor(rows, at::kLong));
    }
    batch = std::move(unfinished);
    logits_BV = next_logits_BV(model, at::tensor(ids, at::kLong).unsqueeze(1), state);
  }
}

}  // namespace

void generate(const Transformer& model,
              const std::vector<std::vector<int64_t>>& prompts,
              int64_t end_id,
              const GenerateOptions& options,
              const GenerationVisitor& visitor) {
  require_possible(prompts, options, model.config().max_position_embeddings);
  const at::NoGradGuard no_grad;
  for (const auto& batch : batches_of(prompts, options)) {
    generate_batch(model, prompts, batch, end_id, options, visitor);
  }
}

}  // namespace braid
