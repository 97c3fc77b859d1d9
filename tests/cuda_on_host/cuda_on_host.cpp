#include "tests/cuda_on_host/cuda_on_host.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#include "core/error.h"
#include "tests/cuda_on_host/fragments.h"

#ifndef __x86_64__
#error "Fibers switch by instructions of x86-64"
#endif

// Saves the registers that a call preserves on one stack, takes them from another.
extern "C" void braid_switch_fiber(void** save, void* to);
asm(R"(
.text
.p2align 4
.globl braid_switch_fiber
.type braid_switch_fiber,@function
braid_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size braid_switch_fiber, .-braid_switch_fiber
)");

namespace on_host {
namespace {

constexpr int kWarp = 32;
constexpr std::size_t kWarpgroup = 4;  // warps
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t kStackBytes = 256 << 10;
#else
constexpr std::size_t kStackBytes = 64 << 10;
#endif
constexpr int kCopied = 16;    // bytes of a copy in the background
constexpr int kRegisters = 6;  // that braid_switch_fiber saves

std::atomic<uint64_t> g_order{0};
std::atomic<int> g_compute_capability{9};
std::atomic<int64_t> g_launches{0}, g_matrices{0}, g_matrix_steps{0};
std::atomic<void (*)(bool)> g_memory_guard{nullptr};

// Who waits has seen `generation`; the last to arrive makes the next one.
struct Barrier {
  int arrived = 0;
  uint64_t generation = 0;
};

// A stack with the registers of who left it, or the launching thread's.
struct Stack {
  void* top = nullptr;
  // What AddressSanitizer wants to know.
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  void* fake = nullptr;
};

// In the background, of one thread.
struct Copy {
  void* to;
  const void* from;
  bool valid;
  int group;
};

// Of a warpgroup, as one of its threads issued it.
struct Product {
  float* d;
  std::vector<float> result;  // what it adds to d
  const uint32_t* a_registers;
  std::array<uint32_t, 4> a_given;
  SharedOperand a, b;
  bool adds, made;
  int group;

  bool has_operands_of(const Product& other) const {
    return a == other.a && b == other.b && adds == other.adds &&
           result.size() == other.result.size() &&
           (a_registers == nullptr) == (other.a_registers == nullptr);
  }
};

// The sums of products under way: what they were, until what is added to them is known.
struct Sums {
  float* d;
  std::vector<float> values;
};

struct Fiber {
  Stack stack;
  std::unique_ptr<char[]> memory;
  int number = 0;
  bool done = false;
  const Barrier* barrier = nullptr;  // where it waits
  uint64_t generation = 0;
  dim3 thread_index;
  std::vector<Copy> copies;
  int group = 0;  // that the next copy belongs to
  std::vector<Product> products;
  std::vector<Sums> sums;
  int product_group = 0;
  int first_pending_group = 0;      // of the products, those before must be made
  std::vector<const void*> fenced;  // arrays of registers, behind the last wait for products
  bool has_published = false;       // since the last barrier
};

// What a warp does together, by its last lane; each lane's arguments.
using Collective = void (*)(void* const (&arguments)[kWarp]);

struct Warp {
  Barrier barrier;
  int fibers = 0, live = 0;
  uint64_t exchanges = 0;  // values lie in two rows in turn: a lane may be one exchange ahead
  alignas(16) unsigned char values[2][kWarp][16];
  Collective collective = nullptr;  // that the first lane came for
  void* arguments[kWarp];
  std::vector<uint64_t> products;  // what it has multiplied: descriptors
};

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

class Block {
 public:
  void run(dim3 grid,
           int threads,
           const std::function<void()>& thread,
           std::size_t shared_bytes,
           uint64_t order) {
    thread_ = &thread;
    order_ = order;
    constexpr std::size_t kAlignment = 1024;
    void* memory = nullptr;
    braid::require(posix_memalign(&memory, kAlignment, std::max<std::size_t>(shared_bytes, 1)) == 0,
                   "[cuda on the host] no memory for shared memory");
    dynamic_.reset(static_cast<unsigned char*>(memory));
    dynamic_bytes_ = shared_bytes;
    place_.grid = grid;
    place_.block = {static_cast<unsigned>(threads)};
    const auto count = grid.x * grid.y * grid.z;
    std::vector<unsigned> blocks(count);
    std::iota(blocks.begin(), blocks.end(), 0u);
    std::mt19937_64 random(order);
    arrange(blocks, order, random);
    for (const unsigned block : blocks) {
      place_.block_index = {block % grid.x, block / grid.x % grid.y, block / (grid.x * grid.y)};
      prepare(threads, order, random);
      run_fibers();
    }
  }

  // Of the fiber that runs.
  const Place& place() {
    place_.thread_index = now_->thread_index;
    return place_;
  }
  int lane() const { return now_->number % kWarp; }
  uint64_t number() const { return number_; }

  // Of all threads: those that have ended too are waited for, in vain.
  void sync_threads() {
    const int threads = static_cast<int>(sequence_.size());
    if (barrier_.arrived + 1 == threads) {
      for (auto& fiber : fibers_) {
        fiber.has_published = false;
      }
    }
    wait(barrier_, threads);
  }

  void sync_warp(uint32_t lanes) {
    auto& warp = warp_of(*now_);
    if (warp.barrier.arrived == 0) {
      warp.collective = nullptr;
    }
    if (warp.collective != nullptr) {
      give_up("the lanes of a warp do different things together");
    }
    wait_for_warp(lanes);
  }

  void wait_for_warp(uint32_t lanes = 0xffffffffu) {
    auto& warp = warp_of(*now_);
    if (warp.fibers != kWarp || warp.live != kWarp || lanes != 0xffffffffu) {
      give_up("all 32 lanes of a warp must take part in what it does together; " +
              std::to_string(warp.live) + " are left");
    }
    wait(warp.barrier, kWarp);
  }

  unsigned char* dynamic_shared() { return dynamic_.get(); }

  void copy_async(void* to, const void* from, bool valid) {
    if (reinterpret_cast<uintptr_t>(to) % kCopied != 0 ||
        (valid && reinterpret_cast<uintptr_t>(from) % kCopied != 0)) {
      give_up("cp.async copies from and to multiples of 16 bytes");
    }
    std::memset(to, 0xff, kCopied);
    now_->copies.push_back({to, from, valid, now_->group});
  }
  void commit_copies() { ++now_->group; }
  void wait_for_copies(int pending) {
    auto& copies = now_->copies;
    const auto later = std::find_if(copies.begin(), copies.end(), [&](const Copy& copy) {
      return copy.group >= now_->group - pending;
    });
    for (auto copy = copies.begin(); copy != later; ++copy) {
      if (copy->valid) {
        std::memcpy(copy->to, copy->from, kCopied);
      } else {
        std::memset(copy->to, 0, kCopied);
      }
    }
    copies.erase(copies.begin(), later);
  }

  void collective(Collective done_by_last, void* argument) {
    auto& warp = warp_of(*now_);
    if (warp.barrier.arrived == 0) {
      warp.collective = done_by_last;
    }
    if (warp.collective != done_by_last) {
      give_up("the lanes of a warp do different things together");
    }
    warp.arguments[lane()] = argument;
    if (warp.barrier.arrived + 1 == kWarp) {
      done_by_last(warp.arguments);
    }
    wait_for_warp();
  }

  uint64_t shared_address(const void* shared) {
    const auto* byte = static_cast<const unsigned char*>(shared);
    if (byte < dynamic_.get() || byte >= dynamic_.get() + dynamic_bytes_) {
      give_up("operands of wgmma are in dynamic shared memory");
    }
    return static_cast<uint64_t>(byte - dynamic_.get());
  }

  // What one thread writes is not told from what another does: all have to say it.
  void publish_shared() {
    now_->has_published = true;
    if (std::all_of(sequence_.begin(), sequence_.end(), [&](int number) {
          return fibers_[static_cast<std::size_t>(number)].has_published;
        })) {
      published_.assign(dynamic_.get(), dynamic_.get() + dynamic_bytes_);
    }
  }

  void fence_registers(std::initializer_list<const void*> arrays) {
    now_->fenced.insert(now_->fenced.end(), arrays);
  }

  void multiply(const Product& given) {
    auto& fiber = *now_;
    const auto is_fenced = [&](const void* array) {
      return array == nullptr ||
             std::find(fiber.fenced.begin(), fiber.fenced.end(), array) != fiber.fenced.end();
    };
    if (!is_fenced(given.d) || !is_fenced(given.a_registers)) {
      give_up("a product of a warpgroup lacks the fence of its registers");
    }
    std::erase(fiber.fenced, given.a_registers);  // other numbers will be there for the next one
    auto sums = std::find_if(fiber.sums.begin(), fiber.sums.end(), [&](const Sums& other) {
      return other.d == given.d;
    });
    if (sums == fiber.sums.end()) {
      fiber.sums.push_back({given.d, {given.d, given.d + given.result.size()}});
      std::memset(given.d, 0xff, given.result.size() * sizeof(float));
    }
    fiber.products.push_back(given);
    fiber.products.back().group = fiber.product_group;
    collective(note_product, &fiber);
    if (order_ % 2 == 1) {
      fiber.first_pending_group = std::numeric_limits<int>::max();
      collective(make_products, &fiber);
    }
  }
  void commit_products() { ++now_->product_group; }
  void wait_for_products(int pending) {
    auto& fiber = *now_;
    fiber.fenced.clear();
    fiber.first_pending_group = fiber.product_group - pending;
    collective(make_products, &fiber);
    const auto later =
        std::find_if(fiber.products.begin(), fiber.products.end(), [&](const Product& product) {
          return product.group >= fiber.product_group - pending;
        });
    for (auto product = fiber.products.begin(); product != later; ++product) {
      const auto sums = std::find_if(fiber.sums.begin(), fiber.sums.end(), [&](const Sums& other) {
        return other.d == product->d;
      });
      for (std::size_t i = 0; i < product->result.size(); ++i) {
        sums->values[i] = product->result[i] + (product->adds ? sums->values[i] : 0.0f);
      }
      if (product->a_registers != nullptr &&
          !std::equal(product->a_given.begin(), product->a_given.end(), product->a_registers)) {
        give_up("registers of a product under way were written");
      }
    }
    fiber.products.erase(fiber.products.begin(), later);
    const auto is_done = [&](const Sums& sums) {
      return std::none_of(fiber.products.begin(), fiber.products.end(), [&](const Product& other) {
        return other.d == sums.d;
      });
    };
    for (const auto& sums : fiber.sums) {
      if (is_done(sums)) {
        if (!std::all_of(sums.d, sums.d + sums.values.size(), [](const float& number) {
              return __float_as_uint(number) == 0xffffffffu;
            })) {
          give_up("sums of a product under way were written");
        }
        std::copy(sums.values.begin(), sums.values.end(), sums.d);
      }
    }
    std::erase_if(fiber.sums, is_done);
  }

  void exchange(uint32_t lanes, const void* mine, std::size_t bytes, int from, void* received) {
    auto& warp = warp_of(*now_);
    if (warp.barrier.arrived == 0) {
      warp.collective = nullptr;
    }
    auto& values = warp.values[warp.exchanges % 2];
    std::memcpy(values[lane()], mine, bytes);
    if (warp.barrier.arrived + 1 == kWarp) {
      ++warp.exchanges;
    }
    sync_warp(lanes);
    std::memcpy(received, values[from % kWarp], bytes);
  }

 private:
  template <class Items>
  static void arrange(Items& items, uint64_t order, std::mt19937_64& random) {
    if (order == 1) {
      std::reverse(items.begin(), items.end());
    } else if (order > 1) {
      std::shuffle(items.begin(), items.end(), random);
    }
  }

  Warp& warp_of(const Fiber& fiber) {
    return warps_[static_cast<std::size_t>(fiber.number / kWarp)];
  }

  void prepare(int threads, uint64_t order, std::mt19937_64& random) {
    static std::atomic<uint64_t> blocks{0};
    number_ = ++blocks;
    const auto count = static_cast<std::size_t>(threads);
    fibers_.resize(std::max(fibers_.size(), count));
    warps_.assign(count / kWarp, {});
    barrier_ = {};
    failure_.clear();
    std::memset(dynamic_.get(), 0xff, dynamic_bytes_);
    published_.assign(dynamic_bytes_, 0);
    // Warps, and the lanes within each.
    sequence_.clear();
    std::vector<int> warps(warps_.size());
    std::iota(warps.begin(), warps.end(), 0);
    arrange(warps, order, random);
    for (const int warp : warps) {
      std::vector<int> lanes(kWarp);
      std::iota(lanes.begin(), lanes.end(), warp * kWarp);
      arrange(lanes, order, random);
      sequence_.insert(sequence_.end(), lanes.begin(), lanes.end());
    }
    positions_.resize(count);
    for (int i = 0; i < threads; ++i) {
      positions_[static_cast<std::size_t>(sequence_[static_cast<std::size_t>(i)])] = i;
    }
    for (int i = 0; i < threads; ++i) {
      prepare_fiber(fibers_[static_cast<std::size_t>(i)], i);
    }
  }

  void prepare_fiber(Fiber& fiber, int number) {
    if (fiber.memory == nullptr) {
      fiber.memory.reset(new char[kStackBytes]);
      fiber.stack.bottom = fiber.memory.get();
      fiber.stack.bytes = kStackBytes;
    }
    fiber.number = number;
    fiber.thread_index = {static_cast<unsigned>(number), 0, 0};
    fiber.done = false;
    fiber.barrier = nullptr;
    fiber.stack.fake = nullptr;
    fiber.copies.clear();
    fiber.group = 0;
    fiber.products.clear();
    fiber.sums.clear();
    fiber.product_group = 0;
    fiber.fenced.clear();
    fiber.has_published = false;
    // As if entry() had been called with its stack aligned, and were to be returned to.
    const auto end = reinterpret_cast<uintptr_t>(fiber.memory.get() + kStackBytes) / 64 * 64;
    auto* top = reinterpret_cast<uintptr_t*>(end);
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(&entry);
    fiber.stack.top = top - kRegisters;
    auto& warp = warp_of(fiber);
    ++warp.fibers;
    ++warp.live;
  }

  void run_fibers() {
    now_ = nullptr;
    now_ = next();
    enter(launcher_, now_->stack, /*ends=*/false);
    for (const int number : sequence_) {
      const auto& fiber = fibers_[static_cast<std::size_t>(number)];
      if (failure_.empty() && !fiber.done) {
        failure_ = "thread " + std::to_string(number) +
                   (fiber.barrier == &barrier_ ? " waits at a barrier of the block"
                                               : " waits for the other lanes of its warp") +
                   ", which others do not reach";
      }
      if (failure_.empty() && !fiber.copies.empty()) {
        failure_ = "thread " + std::to_string(number) +
                   " ended with copies in the background that it did not wait for";
      }
      if (failure_.empty() && !fiber.products.empty()) {
        failure_ = "thread " + std::to_string(number) +
                   " ended with products of wgmma that it did not wait for";
      }
    }
    for (std::size_t warp = 0; warp < warps_.size() && failure_.empty(); ++warp) {
      if (warps_[warp].products != warps_[warp / kWarpgroup * kWarpgroup].products) {
        failure_ = "the warps of a warpgroup multiply different things";
      }
    }
    braid::require(failure_.empty(),
                   "[cuda on the host] block (",
                   place_.block_index.x,
                   ", ",
                   place_.block_index.y,
                   ", ",
                   place_.block_index.z,
                   "): ",
                   failure_);
  }

  // The fiber to run after the one that runs: the next of its warp that can, else of another.
  Fiber* next() {
    const int count = static_cast<int>(sequence_.size());
    const int start = now_ == nullptr ? -1 : positions_[static_cast<std::size_t>(now_->number)];
    const int warp = std::max(start, 0) / kWarp * kWarp;
    for (int i = 1; i <= kWarp; ++i) {
      const int place = warp + (start - warp + i) % kWarp;
      if (auto* fiber = runnable(place)) {
        return fiber;
      }
    }
    for (int i = 0; i < count; ++i) {
      if (auto* fiber = runnable((warp + kWarp + i) % count)) {
        return fiber;
      }
    }
    return nullptr;
  }

  Fiber* runnable(int place) {
    auto& fiber = fibers_[static_cast<std::size_t>(sequence_[static_cast<std::size_t>(place)])];
    const bool waits = fiber.barrier != nullptr && fiber.barrier->generation == fiber.generation;
    return fiber.done || waits ? nullptr : &fiber;
  }

  void wait(Barrier& barrier, int expected) {
    if (++barrier.arrived == expected) {
      barrier.arrived = 0;
      ++barrier.generation;
      return;
    }
    now_->barrier = &barrier;
    now_->generation = barrier.generation;
    leave(/*ends=*/false);
  }

  // ---- wgmma, by the last lane of a warp ----

  static Fiber& fiber_of(void* argument) { return *static_cast<Fiber*>(argument); }
  static Block& now();

  // The lanes gave the same operands, and what they were.
  static void note_product(void* const (&lanes)[kWarp]) {
    const auto& first = fiber_of(lanes[0]).products.back();
    for (void* lane : lanes) {
      if (!fiber_of(lane).products.back().has_operands_of(first)) {
        now().give_up("the lanes of a warp multiply different things");
      }
    }
    auto& noted = now().warp_of(fiber_of(lanes[0])).products;
    noted.insert(noted.end(), {first.a.descriptor, first.b.descriptor, first.result.size()});
  }

  // Those whose group may not be pending any more: as late as can be.
  static void make_products(void* const (&lanes)[kWarp]) {
    const auto& fiber = fiber_of(lanes[0]);
    for (std::size_t i = 0; i < fiber.products.size(); ++i) {
      const auto& product = fiber.products[i];
      if (!product.made && product.group < fiber.first_pending_group) {
        now().make_product(lanes, i);
      }
    }
  }

  // A number of a descriptor, in bytes.
  static int bytes_of(uint64_t descriptor, int first_bit) {
    return static_cast<int>(descriptor >> first_bit & 0x3fff) * 16;
  }

  // As products see it: NaN where something else has been published.
  float published(int byte) {
    uint16_t there, then;
    if (static_cast<std::size_t>(byte) + sizeof there > dynamic_bytes_) {
      give_up("an operand of wgmma goes beyond shared memory");
    }
    std::memcpy(&there, dynamic_.get() + byte, sizeof there);
    std::memcpy(&then, published_.data() + byte, sizeof then);
    return there == then ? __uint_as_float(static_cast<uint32_t>(there) << 16) : NAN;
  }

  // Element (i, k) of an operand, k being the term of the sum: of row i of a, of column i of b.
  float shared_element(const SharedOperand& operand, int i, int k) {
    constexpr int kLeading = 16, kStride = 32, kSwizzle = 62;
    const uint64_t descriptor = operand.descriptor;
    if (descriptor >> kSwizzle != 1) {
      give_up("only operands with the 128-byte swizzle are played");
    }
    const int start = bytes_of(descriptor, 0), stride = bytes_of(descriptor, kStride);
    return published(operand.by_panels
                         ? byte_by_panels(start, bytes_of(descriptor, kLeading), stride, k, i)
                         : byte_by_rows(start, stride, i, k));
  }

  // The 16 rows of the warp.
  void make_product(void* const (&lanes)[kWarp], std::size_t number) {
    const auto of = [&](int lane) -> Product& { return fiber_of(lanes[lane]).products[number]; };
    constexpr int kRows = 16, kSteps = 16;
    const auto& product = of(0);
    const int columns = 2 * static_cast<int>(product.result.size());
    const int warp = fiber_of(lanes[0]).number / kWarp % static_cast<int>(kWarpgroup);
    std::vector<float> a(kRows * kSteps), b(static_cast<std::size_t>(kSteps * columns)),
        d(static_cast<std::size_t>(kRows * columns));
    for (int row = 0; row < kRows && product.a_registers == nullptr; ++row) {
      for (int k = 0; k < kSteps; ++k) {
        a[row * kSteps + k] = shared_element(product.a, warp * kRows + row, k);
      }
    }
    for (int lane = 0; lane < kWarp && product.a_registers != nullptr; ++lane) {
      for (int element = 0; element < 8; ++element) {
        const auto [row, k] = place_in_a(lane, element);
        const uint32_t pair = of(lane).a_given[element / 2];
        a[row * kSteps + k] = __uint_as_float(pair >> (16 * (element % 2)) << 16);
      }
    }
    for (int k = 0; k < kSteps; ++k) {
      for (int column = 0; column < columns; ++column) {
        b[k * columns + column] = shared_element(product.b, column, k);
      }
    }
    for (int row = 0; row < kRows; ++row) {
      float* sums = d.data() + row * columns;
      for (int k = 0; k < kSteps; ++k) {
        const float factor = a[row * kSteps + k];
        const float* from = b.data() + k * columns;
        for (int column = 0; column < columns; ++column) {
          sums[column] += factor * from[column];
        }
      }
    }
    for (int lane = 0; lane < kWarp; ++lane) {
      of(lane).made = true;
      for (int element = 0; element < columns / 2; ++element) {
        const auto [row, column] = place_in_sums(lane, element);
        of(lane).result[element] = d[row * columns + column];
      }
    }
  }

  // Ends the launch; the stacks of all threads are left as they are.
  void give_up(const std::string& failure) {
    failure_ = failure;
    enter(now_->stack, launcher_, /*ends=*/false);
  }

  void leave(bool ends) {
    auto& from = *now_;
    auto* to = next();
    if (to == nullptr) {
      enter(from.stack, launcher_, ends);
      return;
    }
    to->barrier = nullptr;
    now_ = to;
    if (to != &from) {
      enter(from.stack, to->stack, ends);
    }
  }

  static void enter(Stack& from, Stack& to, [[maybe_unused]] bool ends) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake, to.bottom, to.bytes);
#endif
    braid_switch_fiber(&from.top, to.top);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from.fake, nullptr, nullptr);
#endif
  }

  [[noreturn]] static void entry();

  Place place_;
  uint64_t number_ = 0;
  const std::function<void()>* thread_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  Barrier barrier_;
  std::vector<int> sequence_, positions_;  // the order of fibers, and each one's place in it
  Fiber* now_ = nullptr;
  Stack launcher_;
  std::string failure_;
  std::unique_ptr<unsigned char, FreeMemory> dynamic_;  // by itself, so that sanitizers see its end
  std::size_t dynamic_bytes_ = 0;
  std::vector<unsigned char> published_;  // of it
  uint64_t order_ = 0;
};

thread_local Block* t_block = nullptr;

Block& Block::now() {
  return *t_block;
}

void Block::entry() {
  auto& block = *t_block;
#ifdef __SANITIZE_ADDRESS__
  auto& launcher = block.launcher_;
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (launcher.bottom == nullptr) {
    launcher.bottom = bottom;
    launcher.bytes = bytes;
  }
#endif
  (*block.thread_)();
  auto& fiber = *block.now_;
  fiber.done = true;
  --block.warp_of(fiber).live;
  block.leave(/*ends=*/true);
  std::abort();  // nobody enters a fiber that is done
}

// ---- ldmatrix and mma.sync ----

struct MatrixLoad {
  uint32_t* to;
  const unsigned char* row;
};

template <bool kTransposed>
void load_matrices_of_warp(void* const (&arguments)[kWarp]) {
  constexpr int kRows = 8;
  const auto load = [&](int lane) { return static_cast<MatrixLoad*>(arguments[lane]); };
  int steps = 0;
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t rows[kRows][kRows];
    int of_banks[kRows] = {}, most = 0;  // four banks of 4 bytes each hold a row
    for (int row = 0; row < kRows; ++row) {
      const auto* from = load(matrix * kRows + row)->row;
      std::memcpy(rows[row], from, sizeof rows[row]);
      most = std::max(most, ++of_banks[reinterpret_cast<uintptr_t>(from) / 16 % kRows]);
    }
    steps += most;
    for (int lane = 0; lane < kWarp; ++lane) {
      uint32_t pair = 0;
      for (int element = 0; element < 2; ++element) {
        const auto [row, column] = place_in_loaded(lane, element);
        const uint32_t value = kTransposed ? rows[column][row] : rows[row][column];
        pair |= value << (16 * element);
      }
      load(lane)->to[matrix] = pair;
    }
  }
  g_matrices += 4;
  g_matrix_steps += steps;
}

struct Multiplication {
  float* d;
  const uint32_t *a, *b;
};

float element_of(const uint32_t* registers, int element) {
  return __uint_as_float(registers[element / 2] >> (16 * (element % 2)) << 16);
}

void multiply_add_of_warp(void* const (&arguments)[kWarp]) {
  constexpr int kM = 16, kN = 8, kK = 16;
  float a[kM][kK], b[kK][kN], d[kM][kN] = {};
  const auto of = [&](int lane) { return static_cast<Multiplication*>(arguments[lane]); };
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int element = 0; element < 8; ++element) {
      const auto [row, column] = place_in_a(lane, element);
      a[row][column] = element_of(of(lane)->a, element);
    }
    for (int element = 0; element < 4; ++element) {
      const auto [row, column] = place_in_b(lane, element);
      b[row][column] = element_of(of(lane)->b, element);
    }
  }
  for (int m = 0; m < kM; ++m) {
    for (int k = 0; k < kK; ++k) {
      for (int n = 0; n < kN; ++n) {
        d[m][n] += a[m][k] * b[k][n];
      }
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int element = 0; element < 4; ++element) {
      const auto [row, column] = place_in_d(lane, element);
      of(lane)->d[element] += d[row][column];
    }
  }
}

}  // namespace

void launch(dim3 grid, int threads, const std::function<void()>& thread, std::size_t shared_bytes) {
  braid::require(threads > 0 && threads % kWarp == 0 && threads <= 1024,
                 "[cuda on the host] a block has 32 to 1024 threads, in whole warps, not ",
                 threads);
  ++g_launches;
  struct Guarded {
    Guarded() { set(true); }
    ~Guarded() { set(false); }
    static void set(bool running) {
      if (auto* guard = g_memory_guard.load()) {
        guard(running);
      }
    }
  } guarded;
  static thread_local Block block;  // keeps its stacks
  t_block = &block;
  constexpr std::size_t kMostShared = 227 << 10;  // of a Hopper's block
  braid::require(shared_bytes <= kMostShared,
                 "[cuda on the host] a block has at most ",
                 kMostShared,
                 " bytes of shared memory, not ",
                 shared_bytes);
  block.run(grid, threads, thread, shared_bytes, g_order);
}

void set_order(uint64_t order) {
  g_order = order;
}
void set_compute_capability(int major) {
  g_compute_capability = major;
}
int compute_capability() {
  return g_compute_capability;
}
void set_memory_guard(void (*guard)(bool)) {
  g_memory_guard = guard;
}
int64_t launches() {
  return g_launches;
}

MatrixReads matrix_reads() {
  return {g_matrices, g_matrix_steps};
}

const Place& place() {
  return t_block->place();
}
int lane() {
  return t_block->lane();
}
uint64_t block_number() {
  return t_block->number();
}
void sync_threads() {
  t_block->sync_threads();
}
void sync_warp(uint32_t lanes) {
  t_block->sync_warp(lanes);
}
unsigned char* dynamic_shared() {
  return t_block->dynamic_shared();
}
void copy_async(void* shared, const void* global, bool valid) {
  t_block->copy_async(shared, global, valid);
}
void commit_copies() {
  t_block->commit_copies();
}
void wait_for_copies(int pending) {
  t_block->wait_for_copies(pending);
}
void load_matrices(uint32_t (&to)[4], const void* row, bool transposed) {
  MatrixLoad load{to, static_cast<const unsigned char*>(row)};
  t_block->collective(transposed ? load_matrices_of_warp<true> : load_matrices_of_warp<false>,
                      &load);
}
void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Multiplication product{d, a, b};
  t_block->collective(multiply_add_of_warp, &product);
}
uint64_t shared_address(const void* shared) {
  return t_block->shared_address(shared);
}
void publish_shared() {
  t_block->publish_shared();
}
void fence_registers(std::initializer_list<const void*> arrays) {
  t_block->fence_registers(arrays);
}
void commit_products() {
  t_block->commit_products();
}
void wait_for_products(int pending) {
  t_block->wait_for_products(pending);
}
void warpgroup_multiply(
    float* d, int sums, const uint32_t* a_registers, SharedOperand a, SharedOperand b, bool adds) {
  Product product{
      d, std::vector<float>(static_cast<std::size_t>(sums)), a_registers, {}, a, b, adds, false, 0};
  if (a_registers != nullptr) {
    std::copy_n(a_registers, product.a_given.size(), product.a_given.begin());
  }
  t_block->multiply(product);
}
void exchange(uint32_t lanes, const void* mine, std::size_t bytes, int from, void* received) {
  t_block->exchange(lanes, mine, bytes, from, received);
}

}  // namespace on_host
