#pragma once

namespace braid::v4_tokens {

// Spellings of DeepSeek-V4's special tokens. The bars are U+FF5C, the low lines U+2581, as in its
// tokenizer.json.
inline constexpr const char* kBegin = "<｜begin▁of▁sentence｜>";
inline constexpr const char* kEnd = "<｜end▁of▁sentence｜>";
inline constexpr const char* kPad = "<｜▁pad▁｜>";
inline constexpr const char* kUser = "<｜User｜>";
inline constexpr const char* kAssistant = "<｜Assistant｜>";
inline constexpr const char* kThink = "<think>";
inline constexpr const char* kEndThink = "</think>";
inline constexpr const char* kDsml = "｜DSML｜";
inline constexpr const char* kLatestReminder = "<｜latest_reminder｜>";
inline constexpr const char* kAction = "<｜action｜>";
inline constexpr const char* kQuery = "<｜query｜>";
inline constexpr const char* kAuthority = "<｜authority｜>";
inline constexpr const char* kDomain = "<｜domain｜>";
inline constexpr const char* kTitle = "<｜title｜>";
inline constexpr const char* kReadUrl = "<｜read_url｜>";

}  // namespace braid::v4_tokens
