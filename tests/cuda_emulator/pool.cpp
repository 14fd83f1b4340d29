#include "pool.h"

#include <sys/mman.h>
#include <algorithm>
#include <iterator>
#include <stdexcept>

namespace emulator {
namespace {

constexpr int64_t kAddresses = int64_t{1} << 40;  // reserved, not used

int64_t rounded_up(int64_t nbytes, int64_t unit) { return (nbytes + unit - 1) / unit * unit; }

}  // namespace

Pool::Pool(bool is_small) : is_small_(is_small), page_((is_small ? 2 : 20) * kMiB) {
  void* memory = mmap(nullptr, kAddresses, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("the emulator finds no addresses");
  base_ = static_cast<char*>(memory);
  blocks_[0] = {kAddresses / page_ * page_, false, true, 0};
}

// What the allocator asks the driver for, for a block of so many bytes.
int64_t Pool::segment_bytes(int64_t nbytes) const {
  if (is_small_) return 2 * kMiB;
  return nbytes < 10 * kMiB ? 20 * kMiB : rounded_up(nbytes, 2 * kMiB);
}

void* Pool::take_free(int64_t nbytes, bool expandable) {
  auto best = blocks_.end();
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    const auto& [size, is_mapped, is_free, segment] = block->second;
    const bool fits = is_mapped && is_free && size >= nbytes && (segment == 0) == expandable;
    if (fits && (best == blocks_.end() || size < best->second.nbytes)) best = block;
  }
  return best == blocks_.end() ? nullptr : take(best, nbytes);
}

void* Pool::take_new(int64_t nbytes, bool expandable, int64_t most, int64_t& mapped) {
  if (segment_bytes(nbytes) > most) return nullptr;
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    if (block->second.is_mapped) continue;
    int64_t wanted = segment_bytes(nbytes);
    if (expandable) {  // a free block right before it becomes larger
      wanted = nbytes;
      if (block != blocks_.begin()) {
        const auto& before = std::prev(block)->second;
        if (before.is_mapped && before.is_free && before.segment == 0) wanted -= before.nbytes;
      }
      wanted = rounded_up(wanted, page_);
    }
    if (block->second.nbytes < wanted) continue;
    split(block, wanted);
    block->second.is_mapped = true;
    block->second.segment = expandable ? 0 : ++segments_;
    mapped += wanted;
    return take(merged(block), nbytes);
  }
  return nullptr;
}

void Pool::give_back(void* address) {
  auto block = blocks_.find(offset_of(address));
  block->second.is_free = true;
  merged(block);
}

int64_t Pool::unmap_free() {
  int64_t unmapped = 0;
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    const int64_t offset = block->first;
    if (block->second.is_mapped && block->second.is_free) unmapped += unmap(block);
    block = blocks_.upper_bound(offset);  // neighbours may have become one
  }
  return unmapped;
}

int64_t Pool::unmap(Blocks::iterator block) {
  int64_t begin = block->first, end = begin + block->second.nbytes;
  if (block->second.segment == 0) {
    begin = rounded_up(begin, page_);
    end = end / page_ * page_;
  } else {
    const auto is_same = [&](Blocks::iterator other) {
      return other->second.is_mapped && other->second.segment == block->second.segment;
    };
    const bool is_whole = (block == blocks_.begin() || !is_same(std::prev(block))) &&
                          (std::next(block) == blocks_.end() || !is_same(std::next(block)));
    if (!is_whole) return 0;
  }
  if (begin >= end) return 0;
  if (begin > block->first) {
    split(block, begin - block->first);
    block = std::next(block);
  }
  split(block, end - begin);
  madvise(base_ + begin, end - begin, MADV_DONTNEED);
  block->second.is_mapped = false;
  block->second.segment = 0;
  merged(block);
  return end - begin;
}

void* Pool::take(Blocks::iterator block, int64_t nbytes) {
  // Plain segments are cut only where more than 1 MiB stays, so that few are left in pieces.
  const int64_t rest = block->second.nbytes - nbytes;
  if (is_small_ || block->second.segment == 0 || rest > kMiB) split(block, nbytes);
  block->second.is_free = false;
  return base_ + block->first;
}

void Pool::split(Blocks::iterator block, int64_t nbytes) {
  const int64_t rest = block->second.nbytes - nbytes;
  if (rest == 0) return;
  Block tail = block->second;
  tail.nbytes = rest;
  block->second.nbytes = nbytes;
  blocks_[block->first + nbytes] = tail;
}

Pool::Blocks::iterator Pool::merged(Blocks::iterator block) {
  const auto alike = [](const Block& a, const Block& b) {
    return a.is_free && b.is_free && a.is_mapped == b.is_mapped && a.segment == b.segment;
  };
  const auto next = std::next(block);
  if (next != blocks_.end() && alike(block->second, next->second)) {
    block->second.nbytes += next->second.nbytes;
    blocks_.erase(next);
  }
  if (block == blocks_.begin()) return block;
  const auto before = std::prev(block);
  if (!alike(before->second, block->second)) return block;
  before->second.nbytes += block->second.nbytes;
  blocks_.erase(block);
  return before;
}

}  // namespace emulator
