// The recurrence of an LSTM layer over a window: lstm_forward and lstm_backward. Gates are in torch's order: i, f, g, o.
//
// functions/lstm.py is the other half of this autograd function. There, the products over all steps at once are computed: in
// forward what the input gives to the gates, in backward the gradients of both weights, of the biases and of the input. Here
// is what must go step by step: the product with the state, and the gates.
#include "activations.h"
#include "recurrence.h"

#include <torch/library.h>

namespace {

using namespace blocked;

constexpr int GATES = 4, KEPT = GATES + 1;  // kept of a unit and step: its gates and the previous cell

// One unit's step for `count` sequences: c <- f c + i g, h <- o tanh(c), from what enters its gates (rows i, f, g, o, without
// bias). What the backward pass needs goes to `kept`, rows of `part` columns. The new cell is not kept but computed again.
template <typename S>
void step_unit(S* const (&rows)[GATES], const S (&bias)[GATES], S* h, S* c, S* kept, int64_t part, int64_t count) {
  using activations::sigmoid, activations::tanh;
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> i = sigmoid<S>(load(rows[0] + j) + bias[0]), f = sigmoid<S>(load(rows[1] + j) + bias[1]);
    const Vector<S> g = tanh<S>(load(rows[2] + j) + bias[2]), o = sigmoid<S>(load(rows[3] + j) + bias[3]);
    const Vector<S> before = load(c + j), cell = f * before + i * g;
    store(c + j, cell);
    store(h + j, first_lanes<S>(o * tanh<S>(cell), count - j));
    const Vector<S> all[KEPT] = {i, f, g, o, before};
    each<KEPT>([&](auto k) { store_first(kept + k * part + j, all[k], count - j); });
  }
}

// The backward pass of step_unit: from the gradients of h and c to those of the rows; that of the previous c replaces dc.
template <typename S>
void step_unit_back(const S* kept, int64_t part, const S* dh, S* dc, S* const (&rows)[GATES], int64_t count) {
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> i = load(kept + j), f = load(kept + part + j), g = load(kept + 2 * part + j), o = load(kept + 3 * part + j);
    const Vector<S> before = load(kept + 4 * part + j), tanh_c = activations::tanh<S>(f * before + i * g);
    const Vector<S> d = load(dh + j), d_cell = load(dc + j) + d * o * (S(1) - tanh_c * tanh_c);
    const Vector<S> by_row[GATES] = {d_cell * g * i * (S(1) - i), d_cell * before * f * (S(1) - f),
                                     d_cell * i * (S(1) - g * g), d * tanh_c * o * (S(1) - o)};
    each<GATES>([&](auto k) { store(rows[k] + j, first_lanes<S>(by_row[k], count - j)); });
    store(dc + j, first_lanes<S>(d_cell * f, count - j));
  }
}

// projected [tiles, 4H, width]: what the input gives to the gates; bias [4H]; h, c [B, H]: the first state; values, structure:
// those of the recurrent weight [4H, H].
// Returns the states [T, B, H], for each the previous one [tiles, H, width], what lstm_backward needs, and the last h and c
// [B, H].
std::vector<Tensor> lstm_forward(const Tensor& projected, const Tensor& bias, const Tensor& h, const Tensor& c, int64_t steps,
                                 const Tensor& values, at::TensorList structure) {
  const int64_t B = h.size(0), H = h.size(1);
  const Sparse weight(structure, H, values);
  TORCH_CHECK(weight.layout.rows == GATES * H && projected.is_contiguous() && projected.size(1) == GATES * H &&
                  projected.size(0) * projected.size(2) >= steps * B && bias.is_contiguous() && bias.numel() == GATES * H &&
                  c.sizes() == h.sizes() && B > 0 && steps > 0,
              "the sizes of an LSTM layer do not fit");
  Tensor states = at::empty({steps, B, H}, h.options()), before, saved, last_h, last_c;
  AT_DISPATCH_FLOATING_TYPES(projected.scalar_type(), "lstm_forward", [&] {
    const Step<scalar_t> step(B);
    before = empty_tiles<scalar_t>(steps * B, H, projected.options());
    saved = at::empty({Kept<scalar_t, KEPT>::size(steps, H, step)}, projected.options());
    const Kept<scalar_t, KEPT> kept(saved, H, step);
    Tensor hidden = pack_step<scalar_t>(h, step), cell = pack_step<scalar_t>(c, step);
    Tensor pre = at::zeros({step.groups, GATES * H, step.width}, projected.options());
    const Tiles<scalar_t> from(projected), to_before(before);
    scalar_t *hs = hidden.data_ptr<scalar_t>(), *cs = cell.data_ptr<scalar_t>(), *ps = pre.data_ptr<scalar_t>();
    scalar_t* out = states.data_ptr<scalar_t>();
    const scalar_t* bs = bias.const_data_ptr<scalar_t>();
    // A step's rows begin as what the input gives; the product with the state is added to that.
    const auto begin_rows = [&](int64_t u, int64_t group, const std::vector<Columns>& columns) {
      each<GATES>([&](auto g) {
        from.read(g * H + u, columns[group], ps + (group * GATES * H + g * H + u) * step.width);
      });
    };
    for_units(H, step, [&, columns = step.columns(0, from.width)](int64_t u, int64_t group) { begin_rows(u, group, columns); });
    for (int64_t t = 0; t < steps; t++) {
      multiply<scalar_t>(weight, hs, ps, step.groups, step.width, {.add = true, .gates = GATES});
      const auto columns = step.columns(t, from.width), next = step.columns(t + 1, from.width);
      for_units(H, step, [&](int64_t u, int64_t group) {
        scalar_t *hu = hs + (group * H + u) * step.width, *cu = cs + (group * H + u) * step.width;
        scalar_t *rows[GATES], biases[GATES];
        for (int g = 0; g < GATES; g++) {
          rows[g] = ps + (group * GATES * H + g * H + u) * step.width;
          biases[g] = bs[g * H + u];
        }
        to_before.write(u, columns[group], hu);
        step_unit(rows, biases, hu, cu, kept.rows(t, group, u), step.part, step.used(group));
        step.unpack(hu, group, out + t * B * H + u, H);
        if (t + 1 < steps) begin_rows(u, group, next);
      });
    }
    last_h = unpack_step<scalar_t>(hidden, step);
    last_c = unpack_step<scalar_t>(cell, step);
  });
  return {states, before, saved, last_h, last_c};
}

// Gradients of what lstm_forward returned: d_states [T, B, H]; d_h, d_c [B, H], of the last state. saved: from lstm_forward;
// values, structure: those of the transposed recurrent weight [H, 4H].
// Returns the gradients of what enters the gates [tiles, 4H, width], and of the first h and c [B, H].
std::vector<Tensor> lstm_backward(const Tensor& d_states, const Tensor& d_h, const Tensor& d_c,
                                  const Tensor& saved, const Tensor& values, at::TensorList structure) {
  const int64_t steps = d_states.size(0), B = d_states.size(1), H = d_states.size(2);
  const Sparse weight(structure, GATES * H, values);
  TORCH_CHECK(weight.layout.rows == H && d_states.is_contiguous() && d_h.numel() == B * H && d_c.sizes() == d_h.sizes() &&
                  steps > 0 && B > 0,
              "the sizes of an LSTM layer do not fit");
  Tensor d_gates, first_h, first_c;
  AT_DISPATCH_FLOATING_TYPES(d_states.scalar_type(), "lstm_backward", [&] {
    const Step<scalar_t> step(B);
    TORCH_CHECK(saved.numel() == (Kept<scalar_t, KEPT>::size(steps, H, step)), "the sizes of an LSTM layer do not fit");
    const Kept<scalar_t, KEPT> kept(saved, H, step);
    d_gates = empty_tiles<scalar_t>(steps * B, GATES * H, d_states.options(), /*kept=*/false);
    Tensor dh = pack_step<scalar_t>(d_h + d_states[steps - 1], step), dc = pack_step<scalar_t>(d_c, step);
    Tensor d_pre = at::zeros({step.groups, GATES * H, step.width}, d_states.options());
    const Tiles<scalar_t> to_gates(d_gates);
    scalar_t *dhs = dh.data_ptr<scalar_t>(), *dcs = dc.data_ptr<scalar_t>(), *ds = d_pre.data_ptr<scalar_t>();
    const scalar_t* from = d_states.const_data_ptr<scalar_t>();
    for (int64_t t = steps - 1; t >= 0; t--) {
      const auto columns = step.columns(t, to_gates.width);
      for_units(H, step, [&](int64_t u, int64_t group) {
        const int64_t at = (group * H + u) * step.width;
        scalar_t* rows[GATES];
        for (int g = 0; g < GATES; g++) rows[g] = ds + (group * GATES * H + g * H + u) * step.width;
        step_unit_back(kept.rows(t, group, u), step.part, dhs + at, dcs + at, rows, step.used(group));
        each<GATES>([&](auto g) { to_gates.write(g * H + u, columns[group], rows[g]); });
        if (t)  // the gradient of the previous state: what comes from the layer above, then the product is added to it
          step.pack(from + (t - 1) * B * H + u, H, group, dhs + at);
        else
          std::fill_n(dhs + at, step.width, scalar_t(0));
      });
      multiply<scalar_t>(weight, ds, dhs, step.groups, step.width, {.add = true});
    }
    first_h = unpack_step<scalar_t>(dh, step);
    first_c = unpack_step<scalar_t>(dc, step);
  });
  return {d_gates, first_h, first_c};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def("lstm_forward(Tensor projected, Tensor bias, Tensor h, Tensor c, int steps, Tensor values, Tensor[] structure) -> Tensor[]",
        &lstm_forward);
  m.def("lstm_backward(Tensor d_states, Tensor d_h, Tensor d_c, Tensor saved, Tensor values, Tensor[] structure) -> Tensor[]",
        &lstm_backward);
}
