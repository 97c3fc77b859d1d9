#pragma once
// Which pages of a file mapping are in memory. For mappings of files only: their contents can be
// read again, those of other memory cannot.
#include <cstddef>
#include <vector>

namespace braid {

/// Waits until the pages that hold these bytes are in memory, read ahead as one request.
/// Throws Error with the system's reason when the disk cannot give them.
void read_pages(const void* data, std::size_t size);

/// Asks for the pages without waiting.
void prefetch_pages(const void* data, std::size_t size);

struct PageRange {
  const void* data;
  std::size_t size;
};

/// Asks for the pages of all ranges in a thread of its own, in their order: asking for much waits
/// while the disk is busy. What was asked for so before, and has not been yet, is dropped. Memory
/// that is no longer mapped by then is passed over.
void prefetch_in_background(std::vector<PageRange> ranges);

/// Lets go of the pages that lie wholly within these bytes of a read-only file mapping: the process
/// no longer counts them, the system keeps them as long as it has room. They come back when read.
void release_mapped_pages(const void* data, std::size_t size);

}  // namespace braid
