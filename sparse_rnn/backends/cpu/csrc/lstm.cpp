// The recurrence of an LSTM layer over a window: lstm_forward and lstm_backward. Gates are in torch's order: i, f, g, o.
//
// functions/recurrence.py is the other half of this autograd function. There, the products over all steps at once are
// computed: in forward what the input gives to the gates, in backward the gradients of both weights, of the biases and of the
// input. Here is what must go step by step: the product with the state, and the gates.
#include "activations.h"
#include "recurrence.h"

#include <torch/library.h>

namespace {

using namespace blocked;

constexpr int GATES = 4, KEPT = GATES + 1;  // kept of a unit and step: its gates and the previous cell

// One unit's step for `count` sequences: c <- f c + i g, h <- o tanh(c), from what enters its gates (rows i, f, g, o, without
// bias). What the backward pass needs goes to `kept`, rows of `part` columns. The new cell is not kept but computed again.
// The states of further sequences stay as they are.
template <typename S>
void step_unit(S* const (&rows)[GATES], const S (&bias)[GATES], S* h, S* c, S* kept, int64_t part, int64_t count) {
  using activations::sigmoid, activations::tanh;
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> i = sigmoid<S>(load(rows[0] + j) + bias[0]), f = sigmoid<S>(load(rows[1] + j) + bias[1]);
    const Vector<S> g = tanh<S>(load(rows[2] + j) + bias[2]), o = sigmoid<S>(load(rows[3] + j) + bias[3]);
    const Vector<S> before = load(c + j), cell = f * before + i * g;
    store(c + j, first_lanes<S>(cell, count - j, before));
    store(h + j, first_lanes<S>(o * tanh<S>(cell), count - j, load(h + j)));
    const Vector<S> all[KEPT] = {i, f, g, o, before};
    each<KEPT>([&](auto k) { store_first(kept + k * part + j, all[k], count - j); });
  }
}

// The backward pass of step_unit: from the gradients of h and c to those of the rows, `width` columns, zero from `count` on.
// That of the previous c replaces dc; dh becomes zero, because the previous h has only gone into products.
template <typename S>
void step_unit_back(const S* kept, int64_t part, S* dh, S* dc, S* const (&rows)[GATES], int64_t count, int64_t width) {
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> i = load(kept + j), f = load(kept + part + j), g = load(kept + 2 * part + j), o = load(kept + 3 * part + j);
    const Vector<S> before = load(kept + 4 * part + j), tanh_c = activations::tanh<S>(f * before + i * g);
    const Vector<S> d = load(dh + j), d_after = load(dc + j), d_cell = d_after + d * o * (S(1) - tanh_c * tanh_c);
    const Vector<S> by_row[GATES] = {d_cell * g * i * (S(1) - i), d_cell * before * f * (S(1) - f),
                                     d_cell * i * (S(1) - g * g), d * tanh_c * o * (S(1) - o)};
    each<GATES>([&](auto k) { store(rows[k] + j, first_lanes<S>(by_row[k], count - j)); });
    store(dc + j, first_lanes<S>(d_cell * f, count - j, d_after));
    store(dh + j, first_lanes<S>(Vector<S>{}, count - j, d));
  }
  each<GATES>([&](auto k) { clear_unused(rows[k], count, width); });
}

// projected [tiles, 4H, width]: what the input gives to the gates; biases [4H]; first: h and c [B, H]; sizes, reverse: see
// Window; values, structure: those of the recurrent weight [4H, H].
// Returns the states [columns, H], for each the previous one [tiles, H, width], what lstm_backward needs, and the last h and c
// [B, H].
std::vector<Tensor> lstm_forward(const Tensor& projected, const Tensor& bias_ih, const Tensor& bias_hh, at::TensorList first,
                                 at::IntArrayRef sizes, bool reverse, const Tensor& values, at::TensorList structure) {
  const Tensor &h = first[0], &c = first[1];
  const int64_t H = h.size(1);
  const Sparse weight(structure, H, values);
  check_recurrence(projected, bias_ih, bias_hh, weight, first, sizes, GATES);
  Tensor states, before, saved, last_h, last_c;
  AT_DISPATCH_FLOATING_TYPES(projected.scalar_type(), "lstm_forward", [&] {
    const Window<scalar_t> window(sizes, reverse);
    const Step<scalar_t>& step = window.step;
    states = at::empty({window.columns, H}, projected.options());
    before = empty_tiles<scalar_t>(window.columns, H, projected.options());
    saved = at::empty({Kept<scalar_t, KEPT>::size(window.steps, H, step)}, projected.options());
    const Kept<scalar_t, KEPT> kept(saved, H, step);
    Tensor hidden = pack_step<scalar_t>(h, step), cell = pack_step<scalar_t>(c, step);
    Tensor pre = at::zeros({step.groups, GATES * H, step.width}, projected.options());
    const Tiles<scalar_t> from(projected), to_before(before);
    scalar_t *hs = hidden.data_ptr<scalar_t>(), *cs = cell.data_ptr<scalar_t>(), *ps = pre.data_ptr<scalar_t>();
    scalar_t* out = states.data_ptr<scalar_t>();
    const scalar_t *of_input = bias_ih.const_data_ptr<scalar_t>(), *of_state = bias_hh.const_data_ptr<scalar_t>();
    // A step's rows begin as what the input gives; the product with the state is added to that.
    const auto begin_rows = [&](int64_t u, int64_t group, const Columns& columns) {
      each<GATES>([&](auto g) { from.read(g * H + u, columns, ps + (group * GATES * H + g * H + u) * step.width); });
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
          scalar_t *hu = hs + (group * H + u) * step.width, *cu = cs + (group * H + u) * step.width;
          scalar_t *rows[GATES], biases[GATES];
          for (int g = 0; g < GATES; g++) {
            rows[g] = ps + (group * GATES * H + g * H + u) * step.width;
            biases[g] = of_input[g * H + u] + of_state[g * H + u];
          }
          to_before.write(u, columns[group], hu);
          step_unit(rows, biases, hu, cu, kept.rows(t, group, u), step.part, window.used(t, group));
          window.unpack(hu, t, group, out + u, H);
          if (more) begin_rows(u, group, next[group]);
        });
        columns = next;
      }
    });
    last_h = unpack_step<scalar_t>(hidden, step);
    last_c = unpack_step<scalar_t>(cell, step);
  });
  return {states, before, saved, last_h, last_c};
}

// Gradients of what lstm_forward returned: d_states [columns, H]; d_last: of the last h and c [B, H]. before, saved: from
// lstm_forward; values, structure: those of the transposed recurrent weight [H, 4H].
// Returns the gradients of what the input gives to the gates and of what the state gives [tiles, 4H, width], which are the
// same here, and of the first h and c [B, H].
std::vector<Tensor> lstm_backward(const Tensor& d_states, at::TensorList d_last, const Tensor&, const Tensor& saved,
                                  at::IntArrayRef sizes, bool reverse, const Tensor& values, at::TensorList structure) {
  const int64_t H = d_states.size(1);
  const Sparse weight(structure, GATES * H, values);
  check_gradients(d_states, d_last, weight, sizes);
  Tensor d_gates, first_h, first_c;
  AT_DISPATCH_FLOATING_TYPES(d_states.scalar_type(), "lstm_backward", [&] {
    const Window<scalar_t> window(sizes, reverse);
    const Step<scalar_t>& step = window.step;
    TORCH_CHECK(saved.numel() == (Kept<scalar_t, KEPT>::size(window.steps, H, step)), "the sizes of a recurrent layer do not fit");
    const Kept<scalar_t, KEPT> kept(saved, H, step);
    d_gates = empty_tiles<scalar_t>(window.columns, GATES * H, d_states.options(), /*kept=*/false);
    Tensor dh = pack_step<scalar_t>(d_last[0], step), dc = pack_step<scalar_t>(d_last[1], step);
    Tensor d_pre = at::zeros({step.groups, GATES * H, step.width}, d_states.options());
    const Tiles<scalar_t> to_gates(d_gates);
    scalar_t *dhs = dh.data_ptr<scalar_t>(), *dcs = dc.data_ptr<scalar_t>(), *ds = d_pre.data_ptr<scalar_t>();
    const scalar_t* from = d_states.const_data_ptr<scalar_t>();
    as_team(work_of(values, H, step), window.steps, [&](Team::Member& team) {
      for (int64_t k = window.steps - 1; k >= 0; k--) {
        const int64_t t = window.time(k);
        const auto columns = window.columns_of(t, to_gates.width);
        for_units(team, H, step, [&](int64_t u, int64_t group) {
          const int64_t at = (group * H + u) * step.width;
          scalar_t* rows[GATES];
          for (int g = 0; g < GATES; g++) rows[g] = ds + (group * GATES * H + g * H + u) * step.width;
          window.add(from + u, H, t, group, dhs + at);  // what comes from the layer above
          step_unit_back(kept.rows(t, group, u), step.part, dhs + at, dcs + at, rows, window.used(t, group), step.width);
          each<GATES>([&](auto g) { to_gates.write(g * H + u, columns[group], rows[g]); });
        });
        multiply<scalar_t>(team, weight, ds, dhs, step.groups, step.width, {.add = true});
      }
    });
    first_h = unpack_step<scalar_t>(dh, step);
    first_c = unpack_step<scalar_t>(dc, step);
  });
  return {d_gates, d_gates, first_h, first_c};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def(RECURRENT_FORWARD("lstm"), &lstm_forward);
  m.def(RECURRENT_BACKWARD("lstm"), &lstm_backward);
}
