#include "train/text_samples.h"

#include "core/interruption.h"
#include "inference/generate.h"
#include "inference/generated_text.h"

namespace braid {

TextSamples::TextSamples(const SamplesSection& config,
                         const ModelConfig& model,
                         const Tokenizer& tokenizer)
    : config_(config), tokenizer_(tokenizer) {
  if (config_.count == 0) {
    return;
  }
  if (config_.prompts.empty()) {
    config_.prompts = {""};
  }
  for (std::size_t i = 0; i < config_.prompts.size(); ++i) {
    auto& ids = prompt_ids_.emplace_back(std::vector{tokenizer.begin_id()});
    const auto encoded = tokenizer.encode(config_.prompts[i]);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    const auto length = static_cast<int64_t>(ids.size());
    if (length + config_.max_tokens > model.max_position_embeddings) {
      throw ConfigError(text("logging.samples.prompts[", i, "]"),
                        text("has ",
                             length,
                             " tokens, which with logging.samples.max_tokens ",
                             config_.max_tokens,
                             " exceed model.max_position_embeddings ",
                             model.max_position_embeddings));
    }
  }
}

std::vector<WrittenText> TextSamples::write(const Transformer& model,
                                            uint64_t seed,
                                            const ProcessGrid& grid) const {
  std::vector<WrittenText> texts;
  for (const auto& prompt : config_.prompts) {
    for (int64_t number = 0; number < config_.count; ++number) {
      texts.push_back({prompt, "", number, 0});
    }
  }
  if (texts.empty()) {
    return {};
  }
  std::vector<GeneratedText> growing(texts.size(), GeneratedText({}));
  const auto index = [&](const Continuation& continuation) {
    return static_cast<std::size_t>(continuation.prompt * config_.count + continuation.sample);
  };
  GenerationVisitor visitor;
  visitor.token = [&](const Continuation& continuation, int64_t id) {
    auto& written = texts[index(continuation)];
    written.text += growing[index(continuation)].add(tokenizer_.decode({id}));
    ++written.tokens;
    return true;
  };
  visitor.end = [&](const Continuation& continuation, GenerationEnd) {
    texts[index(continuation)].text += growing[index(continuation)].finish();
  };
  visitor.agree = [&](std::vector<int64_t>& ids) {
    if (grid.world->agree_on_interruption("whether to stop")) {
      stop_if_interrupted();
    }
    ids = grid.world->all_gather(ids, "tokens of samples").front();
  };
  const GenerateOptions options{.max_tokens = config_.max_tokens,
                                .sampling = {.temperature = config_.temperature},
                                .seed = seed,
                                .num_samples = config_.count};
  generate(model, prompt_ids_, tokenizer_.end_id(), options, visitor);
  return texts;
}

}  // namespace braid
