// What the two halves of the emulator and Python share: a CUDA device whose memory is RAM.
#pragma once
#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <cstdint>

namespace emulator {

constexpr int kMostDevices = 2;

// One stretch of bytes that an operation reads or writes, on a device or (device < 0) on the host.
struct Range {
  int64_t address;
  int64_t nbytes;
  int32_t device;
  int32_t is_written;
};

// Python is asked before each of these. `kFails`: it called `emulator_fail`, and what it named there
// is thrown. `kDeferred`: it does the copy later itself, by its addresses.
enum Answer : int { kGoOn = 0, kFails = 1, kDeferred = 2 };

using AllocationHook = int (*)(int device, int64_t nbytes);
using HandedOutHook = void (*)(int device, int64_t address, int64_t nbytes);
using LaunchHook = int (*)(const char* operation, int device, int count, const Range* ranges);
using CopyHook = int (*)(const Range* target, const Range* source, int is_plain, int non_blocking);

struct Hooks {
  AllocationHook allocation;
  HandedOutHook handed_out;
  LaunchHook launch;
  CopyHook copy;
};

extern Hooks hooks;

// What the driver tells of a device, whoever asks.
struct Usage {
  int64_t total, used;
};
Usage usage_of(int device);

// The allocator of the device that is current in this thread.
c10::Allocator* allocator();

// Throw what Python named, if *answer* says so.
void raise_if_failed(int answer);

}  // namespace emulator
