// The recurrence of a GRU layer over a window: gru_forward and gru_backward. Gates are in torch's order: r, z, n.
//
// It is divided with functions/recurrence.py as lstm.cpp is. Only the new gate differs: what the state gives to it is multiplied
// by r before the input's part is added, so that the two parts are kept apart, and have different gradients.
#include "activations.h"
#include "recurrence.h"

#include <torch/library.h>

namespace {

using namespace blocked;

constexpr int GATES = 3, KEPT = GATES + 1;  // kept of a unit and step: its gates, and what the state gives to n

// One unit's step for `count` sequences: n <- tanh(input + r of_state), h <- n + z (h - n), from what enters its gates: rows r, z,
// and of n the state's part; `input` is its other part. bias: of r, z and both parts of n. What the backward pass needs goes to
// `kept`, rows of `part` columns. The states of further sequences stay as they are.
template <typename S>
void step_unit(S* const (&rows)[GATES], const S* input, const S (&bias)[GATES + 1], S* h, S* kept, int64_t part, int64_t count) {
  using activations::sigmoid, activations::tanh;
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> r = sigmoid<S>(load(rows[0] + j) + bias[0]), z = sigmoid<S>(load(rows[1] + j) + bias[1]);
    const Vector<S> of_state = load(rows[2] + j) + bias[3], n = tanh<S>(load(input + j) + bias[2] + r * of_state);
    const Vector<S> before = load(h + j);
    store(h + j, first_lanes<S>(n + z * (before - n), count - j, before));
    const Vector<S> all[KEPT] = {r, z, n, of_state};
    each<KEPT>([&](auto k) { store_first(kept + k * part + j, all[k], count - j); });
  }
}

// The backward pass of step_unit: from the gradient of h to those of the rows, `width` columns, zero from `count` on, and to that
// of `input`. dh becomes the gradient of the previous h (`before`), but for what comes through the product.
template <typename S>
void step_unit_back(const S* kept, int64_t part, const S* before, S* dh, S* const (&rows)[GATES], S* input, int64_t count, int64_t width) {
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> r = load(kept + j), z = load(kept + part + j), n = load(kept + 2 * part + j);
    const Vector<S> of_state = load(kept + 3 * part + j), d = load(dh + j), d_n = d * (S(1) - z) * (S(1) - n * n);
    const Vector<S> by_row[GATES] = {d_n * of_state * r * (S(1) - r), d * (load(before + j) - n) * z * (S(1) - z), d_n * r};
    each<GATES>([&](auto k) { store(rows[k] + j, first_lanes<S>(by_row[k], count - j)); });
    store(input + j, d_n);
    store(dh + j, first_lanes<S>(d * z, count - j, d));
  }
  each<GATES>([&](auto k) { clear_unused(rows[k], count, width); });
}

// As lstm_forward, with 3H rows, and with h as the only state.
std::vector<Tensor> gru_forward(const Tensor& projected, const Tensor& bias_ih, const Tensor& bias_hh, at::TensorList first,
                                at::IntArrayRef sizes, bool reverse, const Tensor& values, at::TensorList structure) {
  const Tensor& h = first[0];
  const int64_t H = h.size(1);
  const Sparse weight(structure, H, values);
  check_recurrence(projected, bias_ih, bias_hh, weight, first, sizes, GATES);
  Tensor states, before, saved, last;
  AT_DISPATCH_FLOATING_TYPES(projected.scalar_type(), "gru_forward", [&] {
    const Window<scalar_t> window(sizes, reverse);
    const Step<scalar_t>& step = window.step;
    states = at::empty({window.columns, H}, projected.options());
    before = empty_tiles<scalar_t>(window.columns, H, projected.options());
    saved = at::empty({Kept<scalar_t, KEPT>::size(window.steps, H, step)}, projected.options());
    const Kept<scalar_t, KEPT> kept(saved, H, step);
    Tensor hidden = pack_step<scalar_t>(h, step), pre = at::zeros({step.groups, GATES * H, step.width}, projected.options());
    const Tiles<scalar_t> from(projected), to_before(before);
    scalar_t *hs = hidden.data_ptr<scalar_t>(), *ps = pre.data_ptr<scalar_t>(), *out = states.data_ptr<scalar_t>();
    const scalar_t *of_input = bias_ih.const_data_ptr<scalar_t>(), *of_state = bias_hh.const_data_ptr<scalar_t>();
    const auto row = [&](int64_t u, int64_t group, int64_t g) { return ps + (group * GATES * H + g * H + u) * step.width; };
    // A step's rows begin as what the input gives, that of n as zero; the product with the state is added to that.
    const auto begin_rows = [&](int64_t u, int64_t group, const Columns& columns) {
      each<GATES - 1>([&](auto g) { from.read(g * H + u, columns, row(u, group, g)); });
      clear_unused(row(u, group, 2), 0, step.width);
    };
    as_team(work_of(values, H, step), window.steps, [&](Team::Member& team) {
      auto columns = window.columns_of(window.time(0), from.width);
      for_units(team, H, step, [&](int64_t u, int64_t group) { begin_rows(u, group, columns[group]); });
      for (int64_t k = 0; k < window.steps; k++) {
        multiply<scalar_t>(team, weight, hs, ps, step.groups, step.width, {.add = true, .gates = GATES});
        const int64_t t = window.time(k);
        const bool more = k + 1 < window.steps;
        const auto next = more ? window.columns_of(window.time(k + 1), from.width) : columns;
        for_units(team, H, step, [&](int64_t u, int64_t group) {
          scalar_t *hu = hs + (group * H + u) * step.width, *rows[GATES] = {row(u, group, 0), row(u, group, 1), row(u, group, 2)};
          const scalar_t biases[] = {of_input[u] + of_state[u], of_input[H + u] + of_state[H + u], of_input[2 * H + u], of_state[2 * H + u]};
          scalar_t input[TILE_BYTES / sizeof(scalar_t)];
          from.read(2 * H + u, columns[group], input);
          to_before.write(u, columns[group], hu);
          step_unit(rows, input, biases, hu, kept.rows(t, group, u), step.part, window.used(t, group));
          window.unpack(hu, t, group, out + u, H);
          if (more) begin_rows(u, group, next[group]);
        });
        columns = next;
      }
    });
    last = unpack_step<scalar_t>(hidden, step);
  });
  return {states, before, saved, last};
}

// As lstm_backward; here, what the input gives to n and what the state gives have different gradients.
std::vector<Tensor> gru_backward(const Tensor& d_states, at::TensorList d_last, const Tensor& before, const Tensor& saved,
                                 at::IntArrayRef sizes, bool reverse, const Tensor& values, at::TensorList structure) {
  const int64_t H = d_states.size(1);
  const Sparse weight(structure, GATES * H, values);
  check_gradients(d_states, d_last, weight, sizes);
  Tensor by_input, by_state, first;
  AT_DISPATCH_FLOATING_TYPES(d_states.scalar_type(), "gru_backward", [&] {
    const Window<scalar_t> window(sizes, reverse);
    const Step<scalar_t>& step = window.step;
    TORCH_CHECK(saved.numel() == (Kept<scalar_t, KEPT>::size(window.steps, H, step)), "the sizes of a recurrent layer do not fit");
    const Kept<scalar_t, KEPT> kept(saved, H, step);
    by_input = empty_tiles<scalar_t>(window.columns, GATES * H, d_states.options(), /*kept=*/false);
    by_state = empty_tiles<scalar_t>(window.columns, GATES * H, d_states.options());
    Tensor dh = pack_step<scalar_t>(d_last[0], step), d_pre = at::zeros({step.groups, GATES * H, step.width}, d_states.options());
    const Tiles<scalar_t> from_before(before), to_input(by_input), to_state(by_state);
    scalar_t *dhs = dh.data_ptr<scalar_t>(), *ds = d_pre.data_ptr<scalar_t>();
    const scalar_t* from = d_states.const_data_ptr<scalar_t>();
    as_team(work_of(values, H, step), window.steps, [&](Team::Member& team) {
      for (int64_t k = window.steps - 1; k >= 0; k--) {
        const int64_t t = window.time(k);
        const auto columns = window.columns_of(t, to_state.width);
        for_units(team, H, step, [&](int64_t u, int64_t group) {
          const Columns& column = columns[group];
          scalar_t previous[TILE_BYTES / sizeof(scalar_t)], input[TILE_BYTES / sizeof(scalar_t)];
          scalar_t *d = dhs + (group * H + u) * step.width, *rows[GATES];
          for (int g = 0; g < GATES; g++) rows[g] = ds + (group * GATES * H + g * H + u) * step.width;
          from_before.read(u, column, previous);
          window.add(from + u, H, t, group, d);  // what comes from the layer above
          step_unit_back(kept.rows(t, group, u), step.part, previous, d, rows, input, window.used(t, group), step.width);
          each<GATES>([&](auto g) {
            to_state.write(g * H + u, column, rows[g]);
            to_input.write(g * H + u, column, g < 2 ? rows[g] : input);
          });
        });
        multiply<scalar_t>(team, weight, ds, dhs, step.groups, step.width, {.add = true});
      }
    });
    first = unpack_step<scalar_t>(dh, step);
  });
  return {by_input, by_state, first};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def(RECURRENT_FORWARD("gru"), &gru_forward);
  m.def(RECURRENT_BACKWARD("gru"), &gru_backward);
}
