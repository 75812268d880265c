// The recurrence of an ON-LSTM layer over a window (Shen et al. 2019): ordered_neurons_forward and ordered_neurons_backward.
// functions/ordered_neurons.py is the other half of this autograd function: the products over all steps at once.
//
// H units form n chunks. The rows of the weights are: master input and master forget, one row per chunk; then output, cell,
// input and forget gate, one row per unit. A master gate is a cumulative softmax over the chunks: f' = cumsoftmax(.) and
// i' = 1 - cumsoftmax(.), and all units of a chunk share its value. With the overlap w = i' f',
//   c <- (f w + f' - w) c + (i w + i' - w) cell,   h <- o tanh(c).
#include "activations.h"
#include "recurrence.h"

#include <torch/library.h>

namespace {

using namespace blocked;

constexpr int MASTERS = 2, GATES = 4, KEPT = GATES + 1;  // kept of a unit and step: its gates and the previous cell

// Which row of the weights belongs to which gate.
struct Rows {
  int64_t units, chunks, chunk, all;

  Rows(int64_t rows, int64_t units_) : units(units_), chunks((rows - GATES * units) / MASTERS), all(rows) {
    TORCH_CHECK(chunks > 0 && all == MASTERS * chunks + GATES * units && units % chunks == 0,
                "the sizes of an ON-LSTM layer do not fit");
    chunk = units / chunks;
  }

  int64_t master(int64_t gate, int64_t n) const { return gate * chunks + n; }
  int64_t gate(int64_t gate, int64_t unit) const { return MASTERS * chunks + gate * units + unit; }
};

// What a window keeps of the master gates [steps, groups, masters, 2, chunks, width]: each one's softmax, and the gate itself.
template <typename S>
struct Masters {
  S* data;
  int64_t groups, size;  // size: of [chunks, width]

  Masters(const Tensor& tensor)
      : data(const_cast<S*>(tensor.const_data_ptr<S>())), groups(tensor.size(1)), size(tensor.size(4) * tensor.size(5)) {}

  S* shares(int64_t t, int64_t group, int64_t gate) const { return data + ((t * groups + group) * MASTERS + gate) * 2 * size; }
  S* opened(int64_t t, int64_t group, int64_t gate) const { return shares(t, group, gate) + size; }
};

// Calls f(gate, group) for the master gates of all groups: their sums go through all chunks.
template <typename S, typename F>
void for_masters(Team::Member& team, const Step<S>& step, const F& f) {
  team(MASTERS * step.groups, [&](int64_t i) { f(i % MASTERS, i / MASTERS); });
}

// Calls f(chunk, group) for the chunks of all groups.
template <typename S, typename F>
void for_chunks(Team::Member& team, const Rows& rows, const Step<S>& step, const F& f) {
  const int64_t several = (UNITS_A_TASK + rows.chunk - 1) / rows.chunk;
  for_several(team, rows.chunks * step.groups, several, [&](int64_t i) { f(i % rows.chunks, i / rows.chunks); });
}

// A master gate's step: from what enters it (rows [chunks][width], without bias) to its softmax and to the gate.
template <typename S>
void step_master(const S* rows, const S* bias, bool inward, S* shares, S* opened, int64_t chunks, int64_t width) {
  for (int64_t j = 0; j < width; j += Lanes<S>::count) {
    const auto entering = [&](int64_t n) { return load(rows + n * width + j) + bias[n]; };
    Vector<S> most = entering(0), sum{};
    for (int64_t n = 1; n < chunks; n++) {
      const Vector<S> x = entering(n);
      most = x > most ? x : most;
    }
    for (int64_t n = 0; n < chunks; n++) {
      const Vector<S> power = activations::exp<S>(entering(n) - most);
      sum += power;
      store(shares + n * width + j, power);
      store(opened + n * width + j, sum);
    }
    for (int64_t n = 0; n < chunks; n++) {
      const Vector<S> running = load(opened + n * width + j) / sum;
      store(shares + n * width + j, load(shares + n * width + j) / sum);
      store(opened + n * width + j, inward ? S(1) - running : running);
    }
  }
}

// The backward pass of step_master, in place: from the gradient of the running sums of `shares` to that of the rows. With
// shares p and G_n = the sum of the gradients of the sums from n on, row n's gradient is p_n (G_n - sum_k p_k G_k).
template <typename S>
void step_master_back(const S* shares, S* rows, int64_t chunks, int64_t width) {
  for (int64_t j = 0; j < width; j += Lanes<S>::count) {
    Vector<S> sum{}, along{};
    for (int64_t n = chunks - 1; n >= 0; n--) {
      sum += load(rows + n * width + j);
      along += load(shares + n * width + j) * sum;
      store(rows + n * width + j, sum);
    }
    for (int64_t n = 0; n < chunks; n++)
      store(rows + n * width + j, load(shares + n * width + j) * (load(rows + n * width + j) - along));
  }
}

// How much of the previous cell is kept, f w + f' - w, and how much of the new one is written, i w + i' - w.
template <typename S>
struct Amounts {
  Vector<S> overlap, written, kept;

  Amounts(Vector<S> inward, Vector<S> forget, Vector<S> i, Vector<S> f)
      : overlap(inward * forget), written(inward - overlap + overlap * i), kept(forget - overlap + overlap * f) {}
};

// One unit's step for `count` sequences: from what enters its gates (rows o, cell, i, f, without bias) and its chunk's master
// gates to h and c. What the backward pass needs goes to `kept`, rows of `part` columns.
template <typename S>
void step_unit(S* const (&rows)[GATES], const S (&bias)[GATES], const S* const (&masters)[MASTERS], S* h, S* c, S* kept,
               int64_t part, int64_t count) {
  using activations::sigmoid, activations::tanh;
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> o = sigmoid<S>(load(rows[0] + j) + bias[0]), cell = tanh<S>(load(rows[1] + j) + bias[1]);
    const Vector<S> i = sigmoid<S>(load(rows[2] + j) + bias[2]), f = sigmoid<S>(load(rows[3] + j) + bias[3]);
    const Amounts<S> amounts(load(masters[0] + j), load(masters[1] + j), i, f);
    const Vector<S> before = load(c + j), after = amounts.written * cell + amounts.kept * before;
    store(c + j, after);
    store(h + j, first_lanes<S>(o * tanh<S>(after), count - j));
    const Vector<S> all[KEPT] = {o, cell, i, f, before};
    each<KEPT>([&](auto k) { store_first(kept + k * part + j, all[k], count - j); });
  }
}

// The backward pass of step_unit: from the gradients of h and c to those of the rows; those of the master gates' running sums
// are added to `sums`, over the units of a chunk; that of the previous c replaces dc.
template <typename S>
void step_unit_back(const S* kept, int64_t part, const S* const (&masters)[MASTERS], const S* dh, S* dc, S* const (&rows)[GATES],
                    S* const (&sums)[MASTERS], int64_t count) {
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> o = load(kept + j), cell = load(kept + part + j), i = load(kept + 2 * part + j), f = load(kept + 3 * part + j);
    const Vector<S> before = load(kept + 4 * part + j), inward = load(masters[0] + j), forget = load(masters[1] + j);
    const Amounts<S> amounts(inward, forget, i, f);
    const Vector<S> tanh_c = activations::tanh<S>(amounts.written * cell + amounts.kept * before), d = load(dh + j);
    const Vector<S> d_cell = load(dc + j) + d * o * (S(1) - tanh_c * tanh_c);
    const Vector<S> inside = cell * (i - S(1)) + before * (f - S(1));
    const Vector<S> by_row[GATES] = {d * tanh_c * o * (S(1) - o), d_cell * amounts.written * (S(1) - cell * cell),
                                     d_cell * amounts.overlap * cell * i * (S(1) - i),
                                     d_cell * amounts.overlap * before * f * (S(1) - f)};
    const Vector<S> by_sum[MASTERS] = {-d_cell * (cell + forget * inside), d_cell * (before + inward * inside)};
    each<GATES>([&](auto k) { store(rows[k] + j, first_lanes<S>(by_row[k], count - j)); });
    each<MASTERS>([&](auto k) { store(sums[k] + j, load(sums[k] + j) + first_lanes<S>(by_sum[k], count - j)); });
    store(dc + j, first_lanes<S>(d_cell * amounts.kept, count - j));
  }
}

// projected [tiles, 2n + 4H, width]: what the input gives to the rows; bias [2n + 4H]; h, c [B, H].
// Returns the states [T, B, H], for each the previous one [tiles, H, width], what ordered_neurons_backward needs of units and
// of master gates, and the last c [B, H].
std::vector<Tensor> ordered_neurons_forward(const Tensor& projected, const Tensor& bias, const Tensor& h, const Tensor& c,
                                            int64_t steps, const Tensor& values, at::TensorList structure) {
  const int64_t B = h.size(0), H = h.size(1);
  const Sparse weight(structure, H, values);
  const Rows rows(weight.layout.rows, H);
  TORCH_CHECK(projected.is_contiguous() && projected.size(1) == rows.all && projected.size(0) * projected.size(2) >= steps * B &&
                  bias.is_contiguous() && bias.numel() == rows.all && c.sizes() == h.sizes() && B > 0 && steps > 0,
              "the sizes of an ON-LSTM layer do not fit");
  Tensor states = at::empty({steps, B, H}, h.options()), before, of_units, of_masters, last_c;
  AT_DISPATCH_FLOATING_TYPES(projected.scalar_type(), "ordered_neurons_forward", [&] {
    const Step<scalar_t> step(B);
    const int64_t W = step.width;
    before = empty_tiles<scalar_t>(steps * B, H, projected.options());
    of_units = at::empty({Kept<scalar_t, KEPT>::size(steps, H, step)}, projected.options());
    of_masters = at::empty({steps, step.groups, MASTERS, 2, rows.chunks, W}, projected.options());
    const Kept<scalar_t, KEPT> kept(of_units, H, step);
    const Masters<scalar_t> masters(of_masters);
    Tensor hidden = pack_step<scalar_t>(h, step), cell = pack_step<scalar_t>(c, step);
    Tensor pre = at::zeros({step.groups, rows.all, W}, projected.options());
    const Tiles<scalar_t> from(projected), to_before(before);
    scalar_t *hs = hidden.data_ptr<scalar_t>(), *cs = cell.data_ptr<scalar_t>(), *ps = pre.data_ptr<scalar_t>();
    scalar_t* out = states.data_ptr<scalar_t>();
    const scalar_t* bs = bias.const_data_ptr<scalar_t>();
    // A step's rows begin as what the input gives; the product with the state is added to that.
    const auto begin_row = [&](int64_t row, int64_t group, const Columns& columns) {
      from.read(row, columns, ps + (group * rows.all + row) * W);
    };
    const auto begin_master = [&](int64_t gate, int64_t group, const Columns& columns) {
      for (int64_t n = 0; n < rows.chunks; n++) begin_row(rows.master(gate, n), group, columns);
    };
    const auto begin_unit = [&](int64_t u, int64_t group, const Columns& columns) {
      each<GATES>([&](auto g) { begin_row(rows.gate(g, u), group, columns); });
    };
    const auto first = step.columns(0, from.width);
    as_team(work_of(values, H, step), steps, [&](Team::Member& team) {
      for_masters(team, step, [&](int64_t gate, int64_t group) { begin_master(gate, group, first[group]); });
      for_units(team, H, step, [&](int64_t u, int64_t group) { begin_unit(u, group, first[group]); });
      for (int64_t t = 0; t < steps; t++) {
        multiply<scalar_t>(team, weight, hs, ps, step.groups, W, {.add = true, .gates = GATES});
        const auto columns = step.columns(t, from.width), next = step.columns(t + 1, from.width);
        for_masters(team, step, [&](int64_t gate, int64_t group) {
          const int64_t row = rows.master(gate, 0);
          step_master(ps + (group * rows.all + row) * W, bs + row, /*inward=*/gate == 0, masters.shares(t, group, gate),
                      masters.opened(t, group, gate), rows.chunks, W);
          if (t + 1 < steps) begin_master(gate, group, next[group]);
        });
        for_units(team, H, step, [&](int64_t u, int64_t group) {
          const int64_t at = (group * H + u) * W, in_chunk = u / rows.chunk * W;
          const scalar_t* opened[MASTERS] = {masters.opened(t, group, 0) + in_chunk, masters.opened(t, group, 1) + in_chunk};
          scalar_t *entering[GATES], biases[GATES];
          for (int g = 0; g < GATES; g++) {
            entering[g] = ps + (group * rows.all + rows.gate(g, u)) * W;
            biases[g] = bs[rows.gate(g, u)];
          }
          to_before.write(u, columns[group], hs + at);
          step_unit(entering, biases, opened, hs + at, cs + at, kept.rows(t, group, u), step.part, step.used(group));
          step.unpack(hs + at, group, out + t * B * H + u, H);
          if (t + 1 < steps) begin_unit(u, group, next[group]);
        });
      }
    });
    last_c = unpack_step<scalar_t>(cell, step);
  });
  return {states, before, of_units, of_masters, last_c};
}

// d_states [T, B, H]; d_c [B, H]: of the last; of_units, of_masters: from ordered_neurons_forward; values, structure: those of
// the transposed recurrent weight. Returns the gradients of what enters the rows [tiles, 2n + 4H, width], and of the first h
// and c [B, H].
std::vector<Tensor> ordered_neurons_backward(const Tensor& d_states, const Tensor& d_c, const Tensor& of_units,
                                             const Tensor& of_masters, const Tensor& values, at::TensorList structure) {
  const int64_t steps = d_states.size(0), B = d_states.size(1), H = d_states.size(2);
  const Rows rows(MASTERS * of_masters.size(4) + GATES * H, H);
  const Sparse weight(structure, rows.all, values);
  TORCH_CHECK(weight.layout.rows == H && d_states.is_contiguous() && d_c.numel() == B * H && steps > 0 && B > 0,
              "the sizes of an ON-LSTM layer do not fit");
  Tensor d_rows, first_h, first_c;
  AT_DISPATCH_FLOATING_TYPES(d_states.scalar_type(), "ordered_neurons_backward", [&] {
    const Step<scalar_t> step(B);
    const int64_t W = step.width;
    TORCH_CHECK(of_units.numel() == (Kept<scalar_t, KEPT>::size(steps, H, step)) && of_masters.size(0) == steps &&
                    of_masters.size(1) == step.groups && of_masters.size(5) == W,
                "the sizes of an ON-LSTM layer do not fit");
    const Kept<scalar_t, KEPT> kept(of_units, H, step);
    const Masters<scalar_t> masters(of_masters);
    d_rows = empty_tiles<scalar_t>(steps * B, rows.all, d_states.options(), /*kept=*/false);
    Tensor dh = pack_step<scalar_t>(d_states[steps - 1], step), dc = pack_step<scalar_t>(d_c, step);
    Tensor d_pre = at::zeros({step.groups, rows.all, W}, d_states.options());
    const Tiles<scalar_t> to_rows(d_rows);
    scalar_t *dhs = dh.data_ptr<scalar_t>(), *dcs = dc.data_ptr<scalar_t>(), *ds = d_pre.data_ptr<scalar_t>();
    const scalar_t* from = d_states.const_data_ptr<scalar_t>();
    as_team(work_of(values, H, step), steps, [&](Team::Member& team) {
      for (int64_t t = steps - 1; t >= 0; t--) {
        const auto columns = step.columns(t, to_rows.width);
        for_chunks(team, rows, step, [&](int64_t n, int64_t group) {
          const scalar_t* opened[MASTERS] = {masters.opened(t, group, 0) + n * W, masters.opened(t, group, 1) + n * W};
          scalar_t* const group_rows = ds + group * rows.all * W;
          scalar_t* sums[MASTERS] = {group_rows + rows.master(0, n) * W, group_rows + rows.master(1, n) * W};
          for (scalar_t* sum : sums) std::fill_n(sum, W, scalar_t(0));
          for (int64_t u = n * rows.chunk; u < (n + 1) * rows.chunk; u++) {
            const int64_t at = (group * H + u) * W;
            scalar_t* by[GATES];
            for (int g = 0; g < GATES; g++) by[g] = group_rows + rows.gate(g, u) * W;
            step_unit_back(kept.rows(t, group, u), step.part, opened, dhs + at, dcs + at, by, sums, step.used(group));
            each<GATES>([&](auto g) { to_rows.write(rows.gate(g, u), columns[group], by[g]); });
            if (t)  // the gradient of the previous state: what comes from the layer above, then the product is added to it
              step.pack(from + (t - 1) * B * H + u, H, group, dhs + at);
            else
              std::fill_n(dhs + at, W, scalar_t(0));
          }
        });
        for_masters(team, step, [&](int64_t gate, int64_t group) {
          scalar_t* const by = ds + (group * rows.all + rows.master(gate, 0)) * W;
          step_master_back(masters.shares(t, group, gate), by, rows.chunks, W);
          for (int64_t n = 0; n < rows.chunks; n++) to_rows.write(rows.master(gate, n), columns[group], by + n * W);
        });
        multiply<scalar_t>(team, weight, ds, dhs, step.groups, W, {.add = true});
      }
    });
    first_h = unpack_step<scalar_t>(dh, step);
    first_c = unpack_step<scalar_t>(dc, step);
  });
  return {d_rows, first_h, first_c};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def("ordered_neurons_forward(Tensor projected, Tensor bias, Tensor h, Tensor c, int steps, Tensor values, "
        "Tensor[] structure) -> Tensor[]",
        &ordered_neurons_forward);
  m.def("ordered_neurons_backward(Tensor d_states, Tensor d_c, Tensor of_units, Tensor of_masters, Tensor values, "
        "Tensor[] structure) -> Tensor[]",
        &ordered_neurons_backward);
}
