#pragma once
// report/page.css and report/page.js, which CMake puts into the program.

namespace braid {

extern const char* const kPageStyle;
extern const char* const kPageScript;

}  // namespace braid
