// Every operation on the device runs on the CPU, on aliases of the same bytes.
#include "emulator.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

namespace emulator {
namespace {

using Tensors = std::vector<at::Tensor>;

bool on_card(const at::Tensor& tensor) { return tensor.defined() && tensor.device().is_cuda(); }

at::Tensor alias_on_cpu(const at::Tensor& tensor) {
  if (!on_card(tensor)) return tensor;
  auto alias = at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                             [tensor](void*) {}, tensor.options().device(at::kCPU));
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number())
    alias.unsafeGetTensorImpl()->set_wrapped_number(true);
  return alias;
}

at::Tensor new_on_card(c10::IntArrayRef sizes, c10::IntArrayRef strides, at::ScalarType dtype,
                       c10::Device device) {
  c10::DeviceGuard guard(device);
  return at::detail::empty_strided_generic(sizes, strides, allocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::CUDA), dtype);
}

at::Tensor to_card(const at::Tensor& result, c10::Device device) {
  auto tensor = new_on_card(result.sizes(), result.strides(), result.scalar_type(), device);
  if (result.numel()) alias_on_cpu(tensor).copy_(result);
  return tensor;
}

// The bytes from a view's first element to its last.
Range range_of(const at::Tensor& tensor, bool is_written) {
  int64_t elements = tensor.numel() ? 1 : 0;
  for (int64_t axis = 0; elements && axis < tensor.dim(); axis++)
    elements += (tensor.size(axis) - 1) * tensor.stride(axis);
  return {reinterpret_cast<int64_t>(tensor.data_ptr()), elements * tensor.element_size(),
          tensor.is_cuda() ? tensor.get_device() : -1, is_written};
}

// One call of an operation: its arguments brought to the CPU, its results taken back.
class Call {
 public:
  Call(const c10::OperatorHandle& operation, torch::jit::Stack* stack)
      : operation_(operation), schema_(operation.schema()), stack_(stack) {}

  void run() {
    const auto count = schema_.arguments().size();
    const auto first = stack_->size() - count;
    for (size_t i = 0; i < count; i++) take((*stack_)[first + i], schema_.arguments()[i]);
    refuse_mixed_devices();
    if (hooks.launch && device_)
      raise_if_failed(hooks.launch(schema_.name().c_str(), device_->index(),
                                   static_cast<int>(ranges_.size()), ranges_.data()));
    operation_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack_);
    fill_empty_outputs();
    const auto results = schema_.returns().size();
    for (size_t i = stack_->size() - results; i < stack_->size(); i++) give((*stack_)[i]);
  }

 private:
  void take(c10::IValue& value, const c10::Argument& argument) {
    const bool written = argument.alias_info() && argument.alias_info()->isWrite();
    if (value.isTensor()) {
      auto tensor = value.toTensor();
      const bool grows = argument.is_out() && on_card(tensor) && tensor.numel() == 0;
      value = grows ? stand_in(tensor) : alias(tensor, written);
    } else if (value.isTensorList()) {
      Tensors aliases;
      for (const auto& tensor : value.toTensorVector()) aliases.push_back(alias(tensor, written));
      value = c10::List<at::Tensor>(aliases);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> aliases;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
        aliases.push_back(tensor ? std::optional(alias(*tensor, written)) : std::nullopt);
      value = std::move(aliases);
    } else if (value.isDevice() && value.toDevice().is_cuda()) {
      meet(value.toDevice());
      value = c10::Device(c10::DeviceType::CPU);
    }
  }

  at::Tensor alias(const at::Tensor& tensor, bool written) {
    if (!tensor.defined()) return tensor;
    if (!tensor.is_cuda()) {
      if (tensor.device().is_cpu() && tensor.dim() > 0) on_host_ = true;
      return tensor;
    }
    meet(tensor.device());
    ranges_.push_back(range_of(tensor, written));
    auto alias = alias_on_cpu(tensor);
    originals_.emplace_back(alias, tensor);
    return alias;
  }

  // An empty `out=` argument is resized by the kernel, which an alias of its bytes can't be.
  at::Tensor stand_in(const at::Tensor& tensor) {
    meet(tensor.device());
    auto stand_in = at::empty({0}, tensor.options().device(at::kCPU));
    originals_.emplace_back(stand_in, tensor);
    outputs_.emplace_back(stand_in, tensor);
    return stand_in;
  }

  void fill_empty_outputs() {
    for (auto& [stand_in, tensor] : outputs_) {
      auto result = to_card(stand_in, tensor.device());
      at::native::set_storage_cpu_(tensor, result.storage(), 0, result.sizes(), result.strides());
    }
  }

  void meet(c10::Device device) {
    if (!device.has_index()) device = c10::Device(device.type(), current());
    if (device_ && *device_ != device) second_device_ = device;
    if (!device_) device_ = device;
  }

  static c10::DeviceIndex current() {
    return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).getDevice().index();
  }

  // PyTorch's words; indices may lie on the host.
  void refuse_mixed_devices() const {
    const auto& name = schema_.name();
    const bool may_mix = name == "aten::index" || name == "aten::index_put_" ||
                         name == "aten::_index_put_impl_";
    const bool mixed = second_device_ || (on_host_ && !may_mix && !originals_.empty());
    TORCH_CHECK(!mixed, "Expected all tensors to be on the same device, but found at least two "
                "devices, ", *device_, " and ",
                second_device_ ? second_device_->str() : std::string("cpu"), "! (", name, ")");
  }

  void give(c10::IValue& value) const {
    if (value.isTensor()) {
      value = take_back(value.toTensor());
    } else if (value.isTensorList()) {
      Tensors results;
      for (const auto& tensor : value.toTensorVector()) results.push_back(take_back(tensor));
      value = c10::List<at::Tensor>(results);
    }
  }

  at::Tensor take_back(const at::Tensor& result) const {
    if (!result.defined() || !device_) return result;
    for (const auto& [alias, original] : originals_)
      if (alias.is_same(result)) return original;
    return to_card(result, *device_);
  }

  const c10::OperatorHandle& operation_;
  const c10::FunctionSchema& schema_;
  torch::jit::Stack* stack_;
  std::optional<c10::Device> device_, second_device_;
  bool on_host_ = false;
  std::vector<Range> ranges_;
  std::vector<std::pair<at::Tensor, at::Tensor>> originals_, outputs_;
};

void on_cpu(const c10::OperatorHandle& operation, c10::DispatchKeySet, torch::jit::Stack* stack) {
  Call(operation, stack).run();
}

c10::Device device_or_current(std::optional<c10::Device> device) {
  if (device && device->has_index()) return *device;
  return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).getDevice();
}

at::Tensor empty(c10::IntArrayRef sizes, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<c10::Device> device,
                 std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(device_or_current(device));
  return at::detail::empty_generic(sizes, allocator(),
                                   c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<c10::Device> device, std::optional<bool>) {
  return new_on_card(sizes, strides, c10::dtype_or_default(dtype), device_or_current(device));
}

at::Tensor& copy(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (self.numel() == 0) return self;
  const bool plain = self.is_contiguous() && source.is_contiguous() &&
                     self.scalar_type() == source.scalar_type() && self.sizes() == source.sizes();
  if (hooks.copy) {
    const auto target = range_of(self, true), from = range_of(source, false);
    const int answer = hooks.copy(&target, &from, plain, non_blocking);
    raise_if_failed(answer);
    if (answer == kDeferred) return self;
  }
  alias_on_cpu(self).copy_(alias_on_cpu(source));
  return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage storage, int64_t offset,
                        c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  return at::native::set_storage_cpu_(self, storage, offset, sizes, strides);
}

at::Tensor as_strided(const at::Tensor& self, c10::IntArrayRef sizes, c10::IntArrayRef strides,
                      std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, sizes, strides, offset);
}

}  // namespace
}  // namespace emulator

TORCH_LIBRARY_IMPL(_, CUDA, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&emulator::on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &emulator::empty);
  m.impl("empty_strided", &emulator::empty_strided);
  m.impl("as_strided", &emulator::as_strided);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("copy_", &emulator::copy);
  m.impl("set_.source_Storage_storage_offset", &emulator::set_storage);
  // These have kernels for every device that would take them apart: one call on the CPU instead.
  for (const char* name : {"convolution", "scaled_dot_product_attention", "native_layer_norm"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&emulator::on_cpu>());
}
