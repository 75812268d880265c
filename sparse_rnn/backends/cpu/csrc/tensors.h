// What the operators share: a structure's tensors as a layout, tiles of columns, dispatch by width.
#pragma once
#include <ATen/Dispatch.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/InferenceMode.h>

#include "blocked.h"
#include "team.h"

#include <mutex>

using at::Tensor;

constexpr int64_t NARROW = 128, WIDE = 256;  // columns of a block

inline int64_t blocks_of(int64_t columns, int64_t block) { return (columns + block - 1) / block; }

// A structure's four tensors and its values, checked, as a Layout. It keeps the tensors alive.
struct Sparse {
  std::vector<Tensor> kept;
  Tensor values;
  blocked::Layout layout;

  Sparse(at::TensorList structure, int64_t columns, Tensor values_) : kept(structure.vec()), values(std::move(values_)) {
    TORCH_CHECK(kept.size() == 4, "a structure has four tensors");
    const Tensor &first = kept[0], &starts = kept[1], &row = kept[2], &column = kept[3];
    layout.panels = first.numel() - 1;
    layout.first = first.const_data_ptr<int32_t>();
    layout.rows = layout.first[layout.panels];
    layout.columns = columns;
    layout.block = starts.numel() - 1 == layout.rows * blocks_of(columns, NARROW) ? NARROW : WIDE;
    layout.blocks = blocks_of(columns, layout.block);
    layout.starts = starts.const_data_ptr<int32_t>();
    layout.row = reinterpret_cast<const uint16_t*>(row.const_data_ptr<int16_t>());
    layout.column = column.const_data_ptr<uint8_t>();
    TORCH_CHECK(starts.numel() == layout.rows * layout.blocks + 1 && row.numel() == layout.rows * layout.blocks,
                "the structure's runs do not fit its rows");
    TORCH_CHECK(values.is_contiguous() && values.numel() == column.numel(), "as many values as active entries are needed");
  }
};

// Calls `f(std::integral_constant<int, V>)` for a tile's width of V vectors, which is a template argument of the kernels.
template <typename S, typename F>
void with_width(int64_t width, const F& f) {
  bool known = false;
  [&]<int... V>(std::integer_sequence<int, V...>) {
    ((width == (V + 1) * blocked::Lanes<S>::count ? (known = true, f(std::integral_constant<int, V + 1>{})) : void()), ...);
  }(std::make_integer_sequence<int, blocked::MOST_VECTORS>{});
  TORCH_CHECK(known, "no kernel for tiles of ", width, " columns");
}

// The width of tiles for so many columns: the widest, or what they fill.
template <typename S>
int64_t tile_width(int64_t columns) {
  constexpr int64_t lanes = blocked::Lanes<S>::count, widest = blocked::TILE_BYTES / int64_t(sizeof(S));
  return columns >= widest ? widest : (columns + lanes - 1) / lanes * lanes;
}

// An uninitialised tensor for one step. A large one takes the memory of the last large one, once nothing refers to it any
// more. A window has three such tensors, one after the other: malloc would give each a place of its own, which stays reserved.
inline Tensor workspace(at::IntArrayRef sizes, const at::TensorOptions& options) {
  constexpr int64_t LARGE = 8 << 20;
  static std::mutex mutex;
  static Tensor& last = *new Tensor;  // never destroyed: torch's allocator may be gone before static objects are
  const int64_t count = c10::multiply_integers(sizes);
  if (count * int64_t(options.dtype().itemsize()) < LARGE) return at::empty(sizes, options);
  const std::lock_guard<std::mutex> lock(mutex);
  const c10::InferenceMode of_training(false);  // a tensor made in inference mode could not be used in training later
  if (last.defined() && last.storage().use_count() > 1) return at::empty(sizes, options);
  if (!last.defined() || last.dtype() != options.dtype() || last.numel() < count) {
    last = Tensor();
    last = at::empty({count}, options);
  }
  return last.narrow(0, 0, count).view(sizes);
}

struct Product {
  bool add = false;   // to what y holds
  int64_t gates = 1;  // the matrix has the rows of so many gates, one gate after the other
};

// y [tiles, rows, width] = sparse times x [tiles, columns, width]; with several gates, tasks are in such an order that
// a thread computes the same units of all gates, as for_units does: what a unit needs is then in the caches of one core.
template <typename S>
void multiply(Team::Member& team, const Sparse& m, const S* x, S* y, int64_t tiles, int64_t width, Product how = {}) {
  const blocked::Layout& layout = m.layout;
  const int64_t gates = how.gates, parts = layout.panels % gates ? 0 : layout.panels / gates;
  const S* values = m.values.const_data_ptr<S>();
  with_width<S>(width, [&](auto v) {
    team(layout.panels * tiles, [&](int64_t task) {
      const int64_t tile = task % tiles, i = task / tiles, panel = parts ? i % gates * parts + i / gates : i;
      blocked::multiply_panel<S, v.value>(layout, values, x + tile * layout.columns * width, y + tile * layout.rows * width,
                                          panel, how.add);
    });
  });
}
