#pragma once
// Which pages of a file mapping are in memory. For mappings of files only: their contents can be
// read again, those of other memory cannot.
#include <cstddef>

namespace braid {

/// Waits until the pages that hold these bytes are in memory, read ahead as one request.
/// Throws Error with the system's reason when the disk cannot give them.
void read_pages(const void* data, std::size_t size);

/// Asks for the pages without waiting.
void prefetch_pages(const void* data, std::size_t size);

/// Lets go of the pages that lie wholly within these bytes of a read-only file mapping: the process
/// no longer counts them, the system keeps them as long as it has room. They come back when read.
void release_mapped_pages(const void* data, std::size_t size);

}  // namespace braid
