// What the recurrences (lstm.cpp, gru.cpp, rnn.cpp, highway.cpp, ordered_neurons.cpp) share.
//
// Over a window of T steps and B sequences, step t of sequence b is column t * B + b. Products over the whole window want
// these columns in tiles of full width (Tiles); a step wants its own B columns at the start of a tile (Step). When B is no
// multiple of the tile's width, the columns of a step begin in the middle of one tile and end in the next (Columns), so they
// are copied to and from short buffers of one row. Where sequences end at different steps, a step has fewer columns (Window).
#pragma once
#include "tensors.h"

// The first `count` lanes of a vector, those of `others` beyond.
template <typename S>
inline blocked::Vector<S> first_lanes(blocked::Vector<S> vector, int64_t count, blocked::Vector<S> others = blocked::Vector<S>{}) {
  constexpr int64_t L = blocked::Lanes<S>::count;
  if (count >= L) return vector;
  alignas(blocked::VECTOR_BYTES) static constexpr auto ones = [] {
    std::array<S, 2 * L> result{};
    for (int64_t n = 0; n < L; n++) result[n] = 1;
    return result;
  }();
  const blocked::Vector<S> kept = blocked::load(ones.data() + L - count);
  return kept > S(0) ? vector : others;
}

// Copies `count` entries, at most a tile's width: a call of memcpy would take longer than such a copy. Always inline, so that
// the processor predicts each caller's addresses separately.
template <typename S>
[[gnu::always_inline]] inline void copy(const S* from, S* to, int64_t count) {
  constexpr int64_t L = blocked::Lanes<S>::count;
  for (; count >= L; count -= L, from += L, to += L) blocked::store(to, blocked::load(from));
  const auto part = [&]<int N>() __attribute__((always_inline)) {
    if (!(count & N)) return;
    std::memcpy(to, from, N * sizeof(S));
    from += N;
    to += N;
  };
  part.template operator()<8>();
  part.template operator()<4>();
  part.template operator()<2>();
  part.template operator()<1>();
}

// Stores the first `count` lanes.
template <typename S>
inline void store_first(S* to, blocked::Vector<S> vector, int64_t count) {
  if (count >= blocked::Lanes<S>::count) return blocked::store(to, vector);
  S lanes[blocked::Lanes<S>::count];
  blocked::store(lanes, vector);
  copy(lanes, to, count);
}

// Zeroes the vectors of a row of `width` columns in which none of the first `count` lies.
template <typename S>
inline void clear_unused(S* row, int64_t count, int64_t width) {
  constexpr int64_t L = blocked::Lanes<S>::count;
  for (int64_t j = (count + L - 1) / L * L; j < width; j += L) blocked::store(row + j, blocked::Vector<S>{});
}

// Where `count` columns, no more than a tile has, lie: `first` of them in `tile` from column `at`, the `rest` in the next tile.
struct Columns {
  int64_t tile, at, first, rest;

  Columns(int64_t from, int64_t count, int64_t width)
      : tile(from / width), at(from % width), first(std::min(count, width - at)), rest(count - first) {}
};

// The columns of one step: B sequences, divided equally into `groups` tiles of `width` columns, of which `part` are used (in
// the last group perhaps fewer). Unused columns are zero and stay zero, so that products of whole vectors may read them.
template <typename S>
struct Step {
  int64_t batch, groups, part, width;

  explicit Step(int64_t batch_) : batch(batch_) {
    constexpr int64_t widest = blocked::TILE_BYTES / int64_t(sizeof(S)), lanes = blocked::Lanes<S>::count;
    groups = (batch + widest - 1) / widest;
    part = (batch + groups - 1) / groups;
    width = (part + lanes - 1) / lanes * lanes;
  }

  int64_t used(int64_t group) const { return std::min(part, batch - group * part); }

  // The sequences of a group: from entries that are `stride` apart, one a sequence, to a step's row, and back.
  void pack(const S* from, int64_t stride, int64_t group, S* row) const {
    for (int64_t n = 0; n < used(group); n++) row[n] = from[(group * part + n) * stride];
  }
  void unpack(const S* row, int64_t group, S* to, int64_t stride) const {
    for (int64_t n = 0; n < used(group); n++) to[(group * part + n) * stride] = row[n];
  }

  // The columns of each group in the tiles of a window, at step t.
  std::vector<Columns> columns(int64_t t, int64_t tile_width) const {
    std::vector<Columns> result;
    for (int64_t group = 0; group < groups; group++) result.emplace_back(t * batch + group * part, used(group), tile_width);
    return result;
  }
};

// The columns of a window whose sequences may end at different steps, and the order in which a layer takes the steps.
//
// The sequences are sorted by length, as torch packs them: step t has the first sizes[t] of them, at columns offsets[t] and
// following. The k-th step that the layer takes is the one at time(k): with `reverse`, it begins at the end. A sequence
// that has no column at a step keeps its state there.
template <typename S>
struct Window {
  std::vector<int64_t> sizes, offsets{0};
  int64_t steps, columns;
  bool reverse;
  Step<S> step;

  Window(at::IntArrayRef sizes_, bool reverse_)
      : sizes(sizes_.vec()), steps(int64_t(sizes.size())), reverse(reverse_), step(steps ? sizes[0] : 0) {
    for (const int64_t size : sizes) {
      TORCH_CHECK(size > 0 && size <= sizes[offsets.size() > 1 ? offsets.size() - 2 : 0], "sequences are sorted by length, the longest first");
      offsets.push_back(offsets.back() + size);
    }
    TORCH_CHECK(steps > 0, "a window has at least one step");
    columns = offsets.back();
  }

  int64_t time(int64_t k) const { return reverse ? steps - 1 - k : k; }
  int64_t used(int64_t t, int64_t group) const { return std::clamp<int64_t>(sizes[t] - group * step.part, 0, step.part); }

  // The columns of each group in the tiles of the window, at step t.
  std::vector<Columns> columns_of(int64_t t, int64_t tile_width) const {
    std::vector<Columns> result;
    for (int64_t group = 0; group < step.groups; group++)
      result.emplace_back(offsets[t] + group * step.part, used(t, group), tile_width);
    return result;
  }

  // One unit of step t: from a step's row to a matrix [columns, H], `to` being that unit's first entry, and added from one.
  void unpack(const S* row, int64_t t, int64_t group, S* to, int64_t H) const {
    to += (offsets[t] + group * step.part) * H;
    for (int64_t n = 0, count = used(t, group); n < count; n++) to[n * H] = row[n];
  }
  void add(const S* from, int64_t H, int64_t t, int64_t group, S* row) const {
    from += (offsets[t] + group * step.part) * H;
    for (int64_t n = 0, count = used(t, group); n < count; n++) row[n] += from[n * H];
  }
};

// x [B, H] as a step's tiles [groups, H, width], zero where there is no sequence.
template <typename S>
Tensor pack_step(const Tensor& x, const Step<S>& step) {
  const Tensor from = x.contiguous();
  const int64_t H = from.size(1);
  Tensor result = at::zeros({step.groups, H, step.width}, from.options());
  const S* in = from.const_data_ptr<S>();
  S* out = result.data_ptr<S>();
  for (int64_t group = 0; group < step.groups; group++)
    for (int64_t u = 0; u < H; u++) step.pack(in + u, H, group, out + (group * H + u) * step.width);
  return result;
}

// The inverse: [B, H].
template <typename S>
Tensor unpack_step(const Tensor& x, const Step<S>& step) {
  const int64_t H = x.size(1);
  Tensor result = at::empty({step.batch, H}, x.options());
  const S* in = x.const_data_ptr<S>();
  S* out = result.data_ptr<S>();
  for (int64_t group = 0; group < step.groups; group++)
    for (int64_t u = 0; u < H; u++) step.unpack(in + (group * H + u) * step.width, group, out + u, H);
  return result;
}

// Tiles [tiles, rows, width] whose column t * B + b belongs to step t and sequence b.
template <typename S>
struct Tiles {
  S* data;
  int64_t rows, width;

  explicit Tiles(const Tensor& tensor) : data(const_cast<S*>(tensor.const_data_ptr<S>())), rows(tensor.size(1)), width(tensor.size(2)) {}

  [[gnu::always_inline]] void read(int64_t row, const Columns& c, S* to) const {
    const S* from = data + (c.tile * rows + row) * width;
    copy(from + c.at, to, c.first);
    copy(from + rows * width, to + c.first, c.rest);
  }

  [[gnu::always_inline]] void write(int64_t row, const Columns& c, const S* from) const {
    S* to = data + (c.tile * rows + row) * width;
    copy(from, to + c.at, c.first);
    copy(from + c.first, to + rows * width, c.rest);
  }
};

// What a window keeps for the backward pass: for each step, group and unit, R rows of `part` columns, one after the other. A
// unit's rows lie side by side, so that the backward pass reads memory as one stream.
template <typename S, int R>
struct Kept {
  S* data;
  int64_t units;
  Step<S> step;

  static int64_t size(int64_t steps, int64_t units, const Step<S>& step) {
    return steps * step.groups * units * R * step.part + blocked::Lanes<S>::count;  // the last row too is read in whole vectors
  }

  Kept(const Tensor& tensor, int64_t units_, const Step<S>& step_)
      : data(const_cast<S*>(tensor.const_data_ptr<S>())), units(units_), step(step_) {}

  S* rows(int64_t t, int64_t group, int64_t unit) const {
    return data + ((t * step.groups + group) * units + unit) * R * step.part;
  }
};

// Tiles for `columns` columns, zero beyond them. `kept`: they are needed after the next call of workspace (tensors.h).
template <typename S>
Tensor empty_tiles(int64_t columns, int64_t rows, const at::TensorOptions& options, bool kept = true) {
  const int64_t width = tile_width<S>(columns), tiles = (columns + width - 1) / width, used = columns - (tiles - 1) * width;
  Tensor result = kept ? at::empty({tiles, rows, width}, options) : workspace({tiles, rows, width}, options);
  S* last = result.data_ptr<S>() + (tiles - 1) * rows * width;
  for (int64_t row = 0; row < rows; row++) std::memset(last + row * width + used, 0, (width - used) * sizeof(S));
  return result;
}

constexpr int64_t UNITS_A_TASK = 32;

// The work of one step in multiplications: the gates of a unit take as long as some 250 for each sequence.
template <typename S>
int64_t work_of(const Tensor& values, int64_t units, const Step<S>& step) {
  return (values.numel() + 250 * units) * step.groups * step.width;
}

// Calls f(i) for 0 ... count - 1, about `several` of them a task.
template <typename F>
void for_several(Team::Member& team, int64_t count, int64_t several, const F& f) {
  const int64_t tasks = (count + several - 1) / several;
  team(tasks, [&](int64_t task) {
    for (int64_t i = count * task / tasks; i < count * (task + 1) / tasks; i++) f(i);
  });
}

// Calls f(unit, group) for the units of all groups.
template <typename S, typename F>
void for_units(Team::Member& team, int64_t units, const Step<S>& step, const F& f) {
  for_several(team, units * step.groups, UNITS_A_TASK, [&](int64_t i) { f(i % units, i / units); });
}

// The schemas of the operators that torch's recurrent layers have in common, as functions/recurrence.py calls them.
#define RECURRENT_FORWARD(layer)                                                                                             \
  layer "_forward(Tensor projected, Tensor bias_ih, Tensor bias_hh, Tensor[] first, int[] sizes, bool reverse, "             \
        "Tensor values, Tensor[] structure) -> Tensor[]"
#define RECURRENT_BACKWARD(layer)                                                                                            \
  layer "_backward(Tensor d_states, Tensor[] d_last, Tensor before, Tensor saved, int[] sizes, bool reverse, "               \
        "Tensor values, Tensor[] structure) -> Tensor[]"

// Refuses tensors that do not fit one another: see lstm_forward.
inline void check_recurrence(const Tensor& projected, const Tensor& bias_ih, const Tensor& bias_hh, const Sparse& weight,
                             at::TensorList first, at::IntArrayRef sizes, int64_t gates) {
  const int64_t H = first[0].size(1), rows = gates * H;
  bool fit = weight.layout.rows == rows && projected.is_contiguous() && projected.size(1) == rows &&
             projected.size(0) * projected.size(2) >= c10::sum_integers(sizes);
  for (const Tensor& bias : {bias_ih, bias_hh}) fit = fit && bias.is_contiguous() && bias.numel() == rows;
  for (const Tensor& state : first) fit = fit && !sizes.empty() && state.size(0) == sizes[0] && state.size(1) == H;
  TORCH_CHECK(fit, "the sizes of a recurrent layer do not fit");
}

// The same for a backward pass: see lstm_backward.
inline void check_gradients(const Tensor& d_states, at::TensorList d_last, const Sparse& weight, at::IntArrayRef sizes) {
  bool fit = weight.layout.rows == d_states.size(1) && d_states.is_contiguous() && d_states.size(0) == c10::sum_integers(sizes);
  for (const Tensor& state : d_last) fit = fit && !sizes.empty() && state.size(0) == sizes[0] && state.size(1) == d_states.size(1);
  TORCH_CHECK(fit, "the sizes of a recurrent layer do not fit");
}
