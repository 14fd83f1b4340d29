// The device's memory: a guard with a current device per thread, an allocator that hands freed
// memory out again at once, filled with NaN patterns, and the counters of PyTorch's own.
#include "emulator.h"
#include "pool.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace emulator {

Hooks hooks{};

namespace {

constexpr int kPoison = 0xFF;        // NaN in every float dtype, -1 in every integer

struct Memory {
  int64_t total = 0, limit = 0;
  int64_t outside = 0;  // used by the context and by other programs
  int64_t allocated = 0, allocated_peak = 0, reserved = 0, reserved_peak = 0;
  int64_t retries = 0, failures = 0;
  Pool small{true}, large{false};

  Pool& pool_for(int64_t nbytes) { return nbytes <= kMiB ? small : large; }
  void unmap_free() { reserved -= small.unmap_free() + large.unmap_free(); }
};

struct Block {
  int64_t nbytes;
  int device;
};

std::mutex mutex;
// Never destroyed: tensors may outlive all that is static.
auto& memories = *new std::array<Memory, kMostDevices>;
auto& live = *new std::map<void*, Block>;
int device_count = 0;
bool is_expandable = false;
thread_local c10::DeviceIndex current_device = 0;

struct Failure {
  int kind = 0;
  std::string words;
};
thread_local Failure failure;

c10::Device device_of(c10::DeviceIndex index) { return {c10::DeviceType::CUDA, index}; }

// --- the guard -----------------------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::DeviceType::CUDA; }
  c10::Device getDevice() const override { return device_of(current_device); }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto before = getDevice();
    setDevice(device);
    return before;
  }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.index() < device_count, "CUDA error: invalid device ordinal");
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0) current_device = device.index();
  }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device.index() < 0 ? getDevice() : device);
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override {
    return static_cast<c10::DeviceIndex>(device_count);
  }
};

Guard guard;
c10::impl::DeviceGuardImplRegistrar registrar(c10::DeviceType::CUDA, &guard);

// --- the allocator -------------------------------------------------------------------------

std::string gigabytes(int64_t nbytes) {
  char words[32];
  if (nbytes >= 1 << 30)
    snprintf(words, sizeof words, "%.2f GiB", nbytes / 1073741824.0);
  else
    snprintf(words, sizeof words, "%.2f MiB", nbytes / 1048576.0);
  return words;
}

// PyTorch's words (c10/cuda/CUDACachingAllocator.cpp).
[[noreturn]] void out_of_memory(const Memory& memory, int device, int64_t nbytes) {
  TORCH_CHECK_WITH(
      OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", gigabytes(nbytes),
      ". GPU ", device, " has a total capacity of ", gigabytes(memory.total), " of which ",
      gigabytes(memory.limit - memory.reserved), " is free. Of the allocated memory ",
      gigabytes(memory.allocated), " is allocated by PyTorch, and ",
      gigabytes(memory.reserved - memory.allocated),
      " is reserved by PyTorch but unallocated.");
  std::abort();
}

void* take_block(Memory& memory, int device, int64_t nbytes) {
  auto& pool = memory.pool_for(nbytes);
  const int64_t allowed = std::min(memory.limit, memory.total - memory.outside);
  void* block = pool.take_free(nbytes, is_expandable);
  for (bool again : {false, true}) {
    if (block) break;
    if (again) {
      memory.retries++;
      memory.unmap_free();
    }
    block = pool.take_new(nbytes, is_expandable, allowed - memory.reserved, memory.reserved);
  }
  if (!block) {
    memory.failures++;
    out_of_memory(memory, device, nbytes);
  }
  memory.reserved_peak = std::max(memory.reserved_peak, memory.reserved);
  return block;
}

void release(void* address) {
  if (address == nullptr) return;
  std::lock_guard<std::mutex> lock(mutex);
  auto [nbytes, device] = live.at(address);
  live.erase(address);
  std::memset(address, kPoison, nbytes);
  memories[device].allocated -= nbytes;
  memories[device].pool_for(nbytes).give_back(address);
}

struct RamAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t wanted) override {
    const int device = current_device;
    if (wanted == 0) return {nullptr, nullptr, &release, device_of(device)};
    const int64_t nbytes = (wanted + kAlignment - 1) / kAlignment * kAlignment;
    if (hooks.allocation) raise_if_failed(hooks.allocation(device, nbytes));
    void* address = nullptr;
    {
      std::lock_guard<std::mutex> lock(mutex);
      auto& memory = memories[device];
      address = take_block(memory, device, nbytes);
      live[address] = {nbytes, device};
      memory.allocated += nbytes;
      memory.allocated_peak = std::max(memory.allocated_peak, memory.allocated);
      std::memset(address, kPoison, nbytes);
    }
    if (hooks.handed_out) hooks.handed_out(device, reinterpret_cast<int64_t>(address), nbytes);
    return {address, address, &release, device_of(device)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* target, const void* source, std::size_t count) const override {
    std::memcpy(target, source, count);
  }
};

RamAllocator ram_allocator;
const bool is_registered = [] {
  c10::SetAllocator(c10::DeviceType::CUDA, &ram_allocator, 1);
  return true;
}();

}  // namespace

c10::Allocator* allocator() { return &ram_allocator; }

Usage usage_of(int device) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto& memory = memories[device];
  return {memory.total, memory.outside + memory.reserved};
}

void raise_if_failed(int answer) {
  if (answer != kFails) return;
  switch (failure.kind) {
    case 0: TORCH_CHECK_WITH(OutOfMemoryError, false, failure.words);
    case 1:
      throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, 2, failure.words);
    default: TORCH_CHECK(false, failure.words);
  }
}

}  // namespace emulator

// --- what Python calls ---------------------------------------------------------------------

extern "C" {

using namespace emulator;

void emulator_start(int count, const int64_t* totals, const Hooks* new_hooks) {
  std::lock_guard<std::mutex> lock(mutex);
  device_count = count;
  current_device = 0;
  hooks = *new_hooks;
  for (int index = 0; index < count; index++) {
    auto& memory = memories[index];
    memory.total = memory.limit = totals[index];
    memory.outside = 0;
    memory.allocated_peak = memory.allocated;
    memory.unmap_free();
    memory.reserved_peak = memory.reserved;
    memory.retries = memory.failures = 0;
  }
}

void emulator_stop() {
  hooks = {};
  device_count = 0;
}

void emulator_fail(int kind, const char* words) { failure = {kind, words}; }
int emulator_current_device() { return current_device; }
int emulator_set_device(int device) {
  int before = current_device;
  if (device >= 0) current_device = static_cast<c10::DeviceIndex>(device);
  return before;
}
void emulator_expandable(int is_on) { is_expandable = is_on; }
void emulator_limit(int device, int64_t nbytes) { memories[device].limit = nbytes; }
void emulator_outside(int device, int64_t nbytes) { memories[device].outside = nbytes; }

// allocated, its peak, reserved, its peak, retries, failures
void emulator_counters(int device, int64_t* counters) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto& memory = memories[device];
  const int64_t values[] = {memory.allocated, memory.allocated_peak, memory.reserved,
                            memory.reserved_peak, memory.retries, memory.failures};
  std::memcpy(counters, values, sizeof values);
}

void emulator_reset_peaks(int device) {
  std::lock_guard<std::mutex> lock(mutex);
  memories[device].allocated_peak = memories[device].allocated;
  memories[device].reserved_peak = memories[device].reserved;
}

void emulator_empty_cache() {
  std::lock_guard<std::mutex> lock(mutex);
  for (auto& memory : memories) memory.unmap_free();
}
}
