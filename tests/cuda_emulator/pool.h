// One of the two pools of CUDA's caching allocator (c10/cuda/CUDACachingAllocator.cpp), on RAM of
// addresses that nothing else of the process ever has.
#pragma once
#include <cstdint>
#include <map>

namespace emulator {

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kAlignment = 512;

class Pool {
 public:
  // Blocks of up to 1 MiB are cut from pages of 2 MiB, larger ones from pages of 20 MiB.
  explicit Pool(bool is_small);

  // The address of a free block, mapped before; null where there is none that fits.
  void* take_free(int64_t nbytes, bool expandable);
  // The address of a block after mapping more, up to *most* bytes; null where that is too little.
  // *mapped* grows by what was mapped.
  void* take_new(int64_t nbytes, bool expandable, int64_t most, int64_t& mapped);
  void give_back(void* address);
  // Unmap what is free: whole pages where segments expand, else whole segments. Returns the bytes.
  int64_t unmap_free();
  int64_t size_of(void* address) const { return blocks_.at(offset_of(address)).nbytes; }

 private:
  struct Block {
    int64_t nbytes;
    bool is_mapped, is_free;
    int segment;  // 0: of the one that expands
  };
  using Blocks = std::map<int64_t, Block>;  // all of the addresses, by offset

  int64_t offset_of(const void* address) const {
    return static_cast<const char*>(address) - base_;
  }
  int64_t segment_bytes(int64_t nbytes) const;
  void split(Blocks::iterator block, int64_t nbytes);
  Blocks::iterator merged(Blocks::iterator block);
  void* take(Blocks::iterator block, int64_t nbytes);
  int64_t unmap(Blocks::iterator block);

  bool is_small_;
  int64_t page_;
  char* base_;
  int segments_ = 0;
  Blocks blocks_;
};

}  // namespace emulator
