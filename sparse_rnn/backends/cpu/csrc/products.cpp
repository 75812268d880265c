// Operators: structures from masks, packing of columns into tiles, products and their gradients, embedding lookups.
#include "tensors.h"

#include <ATen/ops/count_nonzero.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>

namespace {

constexpr int64_t PANEL_ENTRIES = 190'000;  // about 1 MB of values and columns: they stay in the second-level cache
constexpr int64_t PANELS = 8;               // the number of panels is a multiple of this, and no less than the threads
constexpr double SHORT = 0.15;              // density below which blocks are wide, so that runs are not too short

// Active entries of each run of a mask [rows, columns]: int32 [blocks, rows].
Tensor lengths_of(const bool* active, int64_t rows, int64_t columns, int64_t block) {
  const int64_t blocks = blocks_of(columns, block);
  Tensor lengths = at::empty({blocks, rows}, at::kInt);
  int32_t* to = lengths.data_ptr<int32_t>();
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      for (int64_t b = 0; b < blocks; b++) {
        const bool* from = active + i * columns + b * block;
        to[b * rows + i] = std::accumulate(from, from + std::min(block, columns - b * block), 0);
      }
  });
  return lengths;
}

// The first row of each panel, int32 [panels + 1]; there are so many that a panel has about PANEL_ENTRIES of `total` entries.
Tensor panels_of(int64_t rows, int64_t total) {
  const int64_t several = (at::get_num_threads() + PANELS - 1) / PANELS * PANELS;
  int64_t panels = several * std::max<int64_t>(1, (total + several * PANEL_ENTRIES - 1) / (several * PANEL_ENTRIES));
  panels = std::max(std::min(panels, rows), (rows + UINT16_MAX) / UINT16_MAX);
  Tensor first = at::empty({panels + 1}, at::kInt);
  for (int64_t p = 0; p <= panels; p++) first.data_ptr<int32_t>()[p] = int32_t(rows * p / panels);
  return first;
}

// Sorts the runs of each panel and block by length: writes `row` and `starts`.
void order_runs(const blocked::Layout& m, const int32_t* lengths, uint16_t* row, int32_t* starts) {
  int32_t at = 0;
  for (int64_t p = 0; p < m.panels; p++)
    for (int64_t b = 0; b < m.blocks; b++) {
      const int64_t runs = m.runs(p, b), count = m.first[p + 1] - m.first[p];
      const int32_t* length = lengths + b * m.rows + m.first[p];
      uint16_t* order = row + runs;
      std::iota(order, order + count, 0);
      std::stable_sort(order, order + count, [&](uint16_t i, uint16_t j) { return length[i] < length[j]; });
      for (int64_t i = 0; i < count; i++) {
        starts[runs + i] = at;
        at += length[order[i]];
      }
    }
  starts[m.rows * m.blocks] = at;
}

// Writes the columns of the active entries, run after run.
void write_columns(const blocked::Layout& m, const bool* active, uint8_t* column) {
  at::parallel_for(0, m.panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++)
      for (int64_t b = 0; b < m.blocks; b++) {
        const int64_t runs = m.runs(p, b), width = std::min(m.block, m.columns - b * m.block);
        for (int64_t i = 0; i < m.first[p + 1] - m.first[p]; i++) {
          const bool* from = active + (m.first[p] + m.row[runs + i]) * m.columns + b * m.block;
          uint8_t* to = column + m.starts[runs + i];
          for (int64_t k = 0; k < width; k++)
            if (from[k]) *to++ = uint8_t(k);
        }
      }
  });
}

// first, starts, row, column of a mask, bool [rows, columns].
std::vector<Tensor> layout_of(const Tensor& mask) {
  TORCH_CHECK(mask.dim() == 2 && mask.scalar_type() == at::kBool && mask.is_contiguous() && mask.device().is_cpu(),
              "a structure is made of a contiguous bool matrix on the CPU");
  const int64_t rows = mask.size(0), columns = mask.size(1), size = rows * columns;
  TORCH_CHECK(size > 0, "a weight without entries has no structure");
  const int64_t total = at::count_nonzero(mask).item<int64_t>();
  TORCH_CHECK(total <= INT32_MAX, "a weight with more than 2^31 - 1 active entries is not supported");
  const int64_t block = columns > NARROW && double(total) < SHORT * double(size) ? WIDE : NARROW, blocks = blocks_of(columns, block);
  const Tensor first = panels_of(rows, total);
  Tensor starts = at::empty({rows * blocks + 1}, at::kInt), row = at::empty({rows * blocks}, at::kShort);
  Tensor column = at::empty({total}, at::kByte);
  const bool* active = mask.const_data_ptr<bool>();
  int32_t* s = starts.data_ptr<int32_t>();
  uint16_t* r = reinterpret_cast<uint16_t*>(row.data_ptr<int16_t>());
  uint8_t* c = column.data_ptr<uint8_t>();
  const blocked::Layout m{rows, columns, first.numel() - 1, blocks, block, first.const_data_ptr<int32_t>(), s, r, c};
  order_runs(m, lengths_of(active, rows, columns, block).const_data_ptr<int32_t>(), r, s);
  write_columns(m, active, c);
  return {first, starts, row, column};
}

// Calls f(stored index, row, column) for the active entries of panels [begin, end).
template <typename F>
void entries(const blocked::Layout& m, int64_t begin, int64_t end, const F& f) {
  for (int64_t p = begin; p < end; p++)
    for (int64_t b = 0; b < m.blocks; b++) {
      const int64_t runs = m.runs(p, b);
      for (int64_t i = 0; i < m.first[p + 1] - m.first[p]; i++)
        for (int32_t k = m.starts[runs + i]; k < m.starts[runs + i + 1]; k++)
          f(k, m.first[p] + m.row[runs + i], b * m.block + m.column[k]);
    }
}

// The row-major index of every stored entry, int64 [active]; `transposed`: the structure is that of the transpose.
Tensor positions(at::TensorList structure, int64_t columns, bool transposed) {
  const Sparse m(structure, columns, structure[3]);
  Tensor result = at::empty({structure[3].numel()}, at::kLong);
  int64_t* to = result.data_ptr<int64_t>();
  const int64_t rows = m.layout.rows;
  at::parallel_for(0, m.layout.panels, 1, [&](int64_t begin, int64_t end) {
    entries(m.layout, begin, end, [&](int32_t k, int64_t i, int64_t j) { to[k] = transposed ? j * rows + i : i * columns + j; });
  });
  return result;
}

void check_index(const Tensor& values, const Tensor& index) {
  TORCH_CHECK(values.is_contiguous() && values.numel() == index.numel(),
              "the weight's structure has changed since its values were used");
}

// values [index], for index int32.
Tensor reorder(const Tensor& values, const Tensor& index) {
  check_index(values, index);
  Tensor result = at::empty({index.numel()}, values.options());
  const int32_t* from = index.const_data_ptr<int32_t>();
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "reorder", [&] {
    const scalar_t* in = values.const_data_ptr<scalar_t>();
    scalar_t* out = result.data_ptr<scalar_t>();
    at::parallel_for(0, index.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; k++) out[k] = in[from[k]];
    });
  });
  return result;
}

constexpr int64_t COPIED = 1 << 16;  // numbers that are worth a thread to copy

// x [N, C] as tiles [ceil(N / width), C, width], zero beyond N.
Tensor pack(const Tensor& x) {
  const Tensor from = x.contiguous();
  const int64_t N = from.size(0), C = from.size(1);
  TORCH_CHECK(N > 0, "there is nothing to multiply: the batch or the sequence is empty");
  Tensor result;
  AT_DISPATCH_FLOATING_TYPES(from.scalar_type(), "pack", [&] {
    constexpr int64_t L = blocked::Lanes<scalar_t>::count;
    const int64_t width = tile_width<scalar_t>(N), tiles = (N + width - 1) / width;
    result = at::empty({tiles, C, width}, from.options());
    const scalar_t* in = from.const_data_ptr<scalar_t>();
    scalar_t* out = result.data_ptr<scalar_t>();
    const int64_t chunks = (C + L - 1) / L;
    at::parallel_for(0, tiles * chunks, 1 + COPIED / (L * width), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t tile = task / chunks, c0 = task % chunks * L, count = std::min(L, C - c0);
        scalar_t* to = out + (tile * C + c0) * width;
        for (int64_t n = 0; n < width; n++) {
          const int64_t column = tile * width + n;
          if (column < N)
            for (int64_t c = 0; c < count; c++) to[c * width + n] = in[column * C + c0 + c];
          else
            for (int64_t c = 0; c < count; c++) to[c * width + n] = 0;
        }
      }
    });
  });
  return result;
}

// The inverse of pack for the first N columns: [N, R].
Tensor unpack(const Tensor& y, int64_t N) {
  TORCH_CHECK(y.is_contiguous() && y.size(0) * y.size(2) >= N, "tiles are contiguous and hold the columns asked for");
  const int64_t R = y.size(1), width = y.size(2);
  Tensor result = at::empty({N, R}, y.options());
  AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "unpack", [&] {
    constexpr int64_t L = blocked::Lanes<scalar_t>::count;
    const scalar_t* in = y.const_data_ptr<scalar_t>();
    scalar_t* out = result.data_ptr<scalar_t>();
    const int64_t chunks = (R + L - 1) / L, tiles = (N + width - 1) / width;
    at::parallel_for(0, tiles * chunks, 1 + COPIED / (L * width), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t tile = task / chunks, r0 = task % chunks * L, count = std::min(L, R - r0);
        const scalar_t* from = in + (tile * R + r0) * width;
        for (int64_t n = 0; n < std::min(width, N - tile * width); n++)
          for (int64_t r = 0; r < count; r++) out[(tile * width + n) * R + r0 + r] = from[r * width + n];
      }
    });
  });
  return result;
}

// sparse times x [tiles, C, width]: [tiles, R, width].
Tensor product(const Tensor& x, const Tensor& values, at::TensorList structure, int64_t columns) {
  const Sparse m(structure, columns, values);
  TORCH_CHECK(x.is_contiguous() && x.size(1) == columns && x.scalar_type() == values.scalar_type(), "x does not fit the weight");
  Tensor y = workspace({x.size(0), m.layout.rows, x.size(2)}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "product", [&] {
    as_team(values.numel() * x.size(0) * x.size(2), 1, [&](Team::Member& team) {
      multiply<scalar_t>(team, m, x.const_data_ptr<scalar_t>(), y.data_ptr<scalar_t>(), x.size(0), x.size(2));
    });
  });
  return y;
}

// Calls f(the first tile, how many as a constant) for two tiles of V vectors at a time, and for the last one. The slices of
// two wide tiles would not stay in the first-level cache together, so those come one by one.
template <int V, typename F>
void in_pairs(int64_t tiles, const F& f) {
  int64_t t = 0;
  if constexpr (2 * V <= blocked::MOST_VECTORS)
    for (; t + 2 <= tiles; t += 2) f(t, std::integral_constant<int, 2>{});
  for (; t < tiles; t++) f(t, std::integral_constant<int, 1>{});
}

// g [tiles, R, width] times x [tiles, C, width] transposed at the active entries: [active].
Tensor sample(const Tensor& g, const Tensor& x, at::TensorList structure, int64_t columns) {
  Tensor gradient = at::empty({structure[3].numel()}, x.options());
  const Sparse m(structure, columns, gradient);
  TORCH_CHECK(g.is_contiguous() && x.is_contiguous() && g.size(0) == x.size(0) && g.size(2) == x.size(2) &&
                  g.size(1) == m.layout.rows && x.size(1) == columns,
              "the tiles do not fit the weight");
  const int64_t tiles = x.size(0), width = x.size(2);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "sample", [&] {
    const scalar_t *gs = g.const_data_ptr<scalar_t>(), *xs = x.const_data_ptr<scalar_t>();
    scalar_t* to = gradient.data_ptr<scalar_t>();
    const int64_t gt = m.layout.rows * width, xt = columns * width;
    with_width<scalar_t>(width, [&](auto v) {
      at::parallel_for(0, m.layout.panels, 1, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; p++) {
          std::fill(to + m.layout.first_entry(p), to + m.layout.first_entry(p + 1), scalar_t(0));
          in_pairs<v.value>(tiles, [&](int64_t t, auto u) {
            blocked::sample_panel<scalar_t, v.value, u.value>(m.layout, to, gs + t * gt, xs + t * xt, p);
          });
        }
      });
    });
  });
  return gradient;
}

// The product of one panel, and the gradient of its values, for all tiles.
template <typename S, int V>
void multiply_and_sample(const blocked::Layout& m, const S* values, const S* x, S* y, const S* z, S* gradient, int64_t panel,
                         int64_t tiles) {
  constexpr int64_t W = V * blocked::Lanes<S>::count;
  in_pairs<V>(tiles, [&](int64_t t, auto u) {
    const S* from = x + t * m.columns * W;
    const int64_t at = t * m.rows * W;
    constexpr bool together = blocked::MULTIPLIES_WHILE_SAMPLING;
    if constexpr (!together)
      for (int64_t n = 0; n < u.value; n++)
        blocked::multiply_panel<S, V>(m, values, from + n * m.columns * W, y + at + n * m.rows * W, panel, /*add=*/false);
    blocked::sample_panel<S, V, u.value, together>(m, gradient, z + at, from, panel, values, y + at);
  });
}

// Both gradients of a product: of what went in [tiles, C, width] and of the values [active], from that of what came out,
// outer [tiles, R, width], and what went in, inner [tiles, C, width]. structure: that of the transpose, with R columns (`rows`);
// index: where its entries are among the values. Both are gathered for one panel at a time and scattered back afterwards, so
// that they stay in the caches while all tiles pass by.
std::tuple<Tensor, Tensor> gradients(const Tensor& outer, const Tensor& inner, const Tensor& values, at::TensorList structure,
                                     int64_t rows, const Tensor& index) {
  check_index(values, index);
  const int64_t tiles = outer.size(0), width = outer.size(2);
  const Sparse m(structure, rows, values);
  const blocked::Layout& layout = m.layout;
  TORCH_CHECK(outer.is_contiguous() && outer.size(1) == rows && inner.is_contiguous() && inner.size(0) == tiles && inner.size(2) == width &&
                  inner.size(1) == layout.rows && outer.scalar_type() == values.scalar_type(),
              "the tiles do not fit the weight");
  Tensor by_inner = workspace({tiles, layout.rows, width}, inner.options()), by_values = at::empty_like(values);
  const int32_t* place = index.const_data_ptr<int32_t>();
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "gradients", [&] {
    const scalar_t *x = outer.const_data_ptr<scalar_t>(), *z = inner.const_data_ptr<scalar_t>();
    const scalar_t* all = values.const_data_ptr<scalar_t>();
    scalar_t *y = by_inner.data_ptr<scalar_t>(), *to = by_values.data_ptr<scalar_t>();
    with_width<scalar_t>(width, [&](auto v) {
      at::parallel_for(0, layout.panels, 1, [&](int64_t begin, int64_t end) {
        std::vector<scalar_t> own, sums;
        for (int64_t p = begin; p < end; p++) {
          const int32_t first = layout.first_entry(p), count = layout.first_entry(p + 1) - first;
          own.resize(count);
          for (int32_t k = 0; k < count; k++) own[k] = all[place[first + k]];
          sums.assign(count, 0);
          multiply_and_sample<scalar_t, v.value>(layout, own.data() - first, x, y, z, sums.data() - first, p, tiles);
          for (int32_t k = 0; k < count; k++) to[place[first + k]] = sums[k];
        }
      });
    });
  });
  return {by_inner, by_values};
}

// Where the run of each row is found among those of its panel and block: the inverse of the structure's `row`.
std::vector<uint16_t> run_of_row(const blocked::Layout& m) {
  std::vector<uint16_t> place(m.rows * m.blocks);
  for (int64_t p = 0; p < m.panels; p++)
    for (int64_t b = 0; b < m.blocks; b++)
      for (int64_t i = 0, runs = m.runs(p, b); i < m.first[p + 1] - m.first[p]; i++) place[runs + m.row[runs + i]] = uint16_t(i);
  return place;
}

// Calls f(stored index, column) for the active entries of a row.
template <typename F>
void row_entries(const blocked::Layout& m, const std::vector<uint16_t>& place, int64_t row, const F& f) {
  const int64_t p = std::upper_bound(m.first, m.first + m.panels + 1, int32_t(row)) - m.first - 1;
  for (int64_t b = 0; b < m.blocks; b++) {
    const int64_t runs = m.runs(p, b), run = runs + place[runs + row - m.first[p]];
    for (int32_t k = m.starts[run]; k < m.starts[run + 1]; k++) f(k, b * m.block + m.column[k]);
  }
}

// The rows of tokens int64 [N]: [N, C].
Tensor lookup(const Tensor& tokens, const Tensor& values, at::TensorList structure, int64_t columns) {
  const Sparse m(structure, columns, values);
  const Tensor from = tokens.contiguous();
  const int64_t* token = from.const_data_ptr<int64_t>();
  for (int64_t n = 0; n < from.numel(); n++) TORCH_CHECK_INDEX(token[n] >= 0 && token[n] < m.layout.rows, "index out of range in self");
  const std::vector<uint16_t> place = run_of_row(m.layout);
  Tensor result = at::zeros({from.numel(), columns}, values.options());
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "lookup", [&] {
    const scalar_t* in = values.const_data_ptr<scalar_t>();
    scalar_t* out = result.data_ptr<scalar_t>();
    at::parallel_for(0, from.numel(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++)
        row_entries(m.layout, place, token[n], [&](int32_t k, int64_t c) { out[n * columns + c] = in[k]; });
    });
  });
  return result;
}

// The gradient of the values [active] from that of the rows [N, C]; threads share the rows, so that sums have one order.
Tensor lookup_gradient(const Tensor& tokens, const Tensor& gradient, at::TensorList structure, int64_t columns) {
  Tensor result = at::zeros({structure[3].numel()}, gradient.options());
  const Sparse m(structure, columns, result);
  const Tensor from = tokens.contiguous(), rows = gradient.contiguous();
  const int64_t* token = from.const_data_ptr<int64_t>();
  const std::vector<uint16_t> place = run_of_row(m.layout);
  AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "lookup_gradient", [&] {
    const scalar_t* in = rows.const_data_ptr<scalar_t>();
    scalar_t* out = result.data_ptr<scalar_t>();
    at::parallel_for(0, m.layout.rows, 256, [&](int64_t begin, int64_t end) {
      for (int64_t n = 0; n < from.numel(); n++)
        if (token[n] >= begin && token[n] < end)
          row_entries(m.layout, place, token[n], [&](int32_t k, int64_t c) { out[k] += in[n * columns + c]; });
    });
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def("layout_of(Tensor mask) -> Tensor[]", &layout_of);
  m.def("positions(Tensor[] structure, int columns, bool transposed) -> Tensor", &positions);
  m.def("reorder(Tensor values, Tensor index) -> Tensor", &reorder);
  m.def("pack(Tensor x) -> Tensor", &pack);
  m.def("unpack(Tensor y, int columns) -> Tensor", &unpack);
  m.def("product(Tensor x, Tensor values, Tensor[] structure, int columns) -> Tensor", &product);
  m.def("sample(Tensor g, Tensor x, Tensor[] structure, int columns) -> Tensor", &sample);
  m.def("gradients(Tensor outer, Tensor inner, Tensor values, Tensor[] structure, int rows, Tensor index) -> (Tensor, Tensor)", &gradients);
  m.def("lookup(Tensor tokens, Tensor values, Tensor[] structure, int columns) -> Tensor", &lookup);
  m.def("lookup_gradient(Tensor tokens, Tensor gradient, Tensor[] structure, int columns) -> Tensor", &lookup_gradient);
}
