// NVIDIA's management library (NVML) as the driver of the posed machine would answer.
#include "emulator.h"

#include <cstring>
#include <string>

namespace {

struct Driver {
  std::string version, name;
  int cuda = 0, count = 0, major = 0, minor = 0;
};
Driver driver;

constexpr int kSuccess = 0, kNotFound = 6, kNoDriver = 9;  // nvml.h: nvmlReturn_t

int give(const std::string& text, char* target, unsigned size) {
  std::strncpy(target, text.c_str(), size);
  return kSuccess;
}

intptr_t index_of(void* device) { return reinterpret_cast<intptr_t>(device) - 1; }

}  // namespace

extern "C" {

void emulator_driver(const char* version, int cuda, const char* name, int count, int major,
                     int minor) {
  driver = {version, name, cuda, count, major, minor};
}

int nvmlInit_v2() { return driver.version.empty() ? kNoDriver : kSuccess; }
int nvmlShutdown() { return kSuccess; }
const char* nvmlErrorString(int code) {
  return code == kNoDriver ? "Driver Not Loaded" : "Not Found";
}
int nvmlSystemGetDriverVersion(char* target, unsigned size) {
  return give(driver.version, target, size);
}
int nvmlSystemGetCudaDriverVersion_v2(int* version) {
  *version = driver.cuda;
  return kSuccess;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = driver.count;
  return kSuccess;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  if (index >= static_cast<unsigned>(driver.count)) return kNotFound;
  *device = reinterpret_cast<void*>(static_cast<intptr_t>(index + 1));
  return kSuccess;
}
int nvmlDeviceGetMemoryInfo(void* device, unsigned long long* sizes) {
  const auto usage = emulator::usage_of(static_cast<int>(index_of(device)));
  sizes[0] = usage.total;
  sizes[1] = usage.total - usage.used;
  sizes[2] = usage.used;
  return kSuccess;
}
int nvmlDeviceGetCudaComputeCapability(void*, int* major, int* minor) {
  *major = driver.major;
  *minor = driver.minor;
  return kSuccess;
}
int nvmlDeviceGetName(void*, char* target, unsigned size) {
  return give(driver.name, target, size);
}
int nvmlDeviceGetUUID(void* device, char* target, unsigned size) {
  return give("GPU-" + std::to_string(index_of(device)) + "0000000-0000-0000-0000-000000000000",
              target, size);
}
}
