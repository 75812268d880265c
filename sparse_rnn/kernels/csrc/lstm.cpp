// A window of an LSTM layer: forward over the steps, backward over the steps. Gates in torch's order: i, f, g, o.
#include "recurrence.h"

#include <torch/library.h>

namespace {

constexpr int GATES = 4;

// One unit's step for `count` sequences: from what enters its gates (rows i, f, g, o) to the gates, in their place; h, c.
template <typename S>
void step_unit(S* const (&rows)[GATES], S* h, S* c, int64_t count) {
  using V = Lane<S>;
  for (int64_t j = 0; j < count; j += V::size()) {
    const V i = sigmoid(V::loadu(rows[0] + j)), f = sigmoid(V::loadu(rows[1] + j));
    const V g = V::loadu(rows[2] + j).tanh(), o = sigmoid(V::loadu(rows[3] + j));
    const V next = f * V::loadu(c + j) + i * g;
    next.store(c + j);
    (o * next.tanh()).store(h + j);
    i.store(rows[0] + j);
    f.store(rows[1] + j);
    g.store(rows[2] + j);
    o.store(rows[3] + j);
  }
}

// The same backwards: from the gradient of h (dh and what comes from above) and of c to that of the rows, and of the c
// before in place of that of c.
template <typename S, int64_t W>
void step_unit_back(const S (&gates)[GATES][W], const S* now, const S* before, const S* dh, const S* above, S* dc,
                    S* const (&rows)[GATES], int64_t count) {
  using V = Lane<S>;
  const V one(S(1));
  for (int64_t j = 0; j < count; j += V::size()) {
    const V i = V::loadu(gates[0] + j), f = V::loadu(gates[1] + j), g = V::loadu(gates[2] + j), o = V::loadu(gates[3] + j);
    const V d = V::loadu(dh + j) + V::loadu(above + j), tanh_c = V::loadu(now + j).tanh();
    const V d_cell = V::loadu(dc + j) + d * o * (one - tanh_c * tanh_c);
    (d_cell * g * i * (one - i)).store(rows[0] + j);
    (d_cell * V::loadu(before + j) * f * (one - f)).store(rows[1] + j);
    (d_cell * i * (one - g * g)).store(rows[2] + j);
    (d * tanh_c * o * (one - o)).store(rows[3] + j);
    (d_cell * f).store(dc + j);
  }
}

// projected [tiles, 4H, width]: what the input gives, and then the gates; bias [4H]; h, c [B, H].
// Returns the states and those before them [tiles, H, width], the cells [tiles, H, width], and the last h and c [B, H].
std::vector<Tensor> lstm_forward(const Tensor& projected, const Tensor& bias, const Tensor& h, const Tensor& c, int64_t steps,
                                 const Tensor& values, at::TensorList structure) {
  const int64_t B = h.size(0), H = h.size(1);
  const Sparse weight(structure, H, values);
  TORCH_CHECK(weight.layout.rows == GATES * H && projected.is_contiguous() && projected.size(1) == GATES * H &&
                  projected.size(0) * projected.size(2) >= steps * B && bias.is_contiguous() && bias.numel() == GATES * H &&
                  c.sizes() == h.sizes() && B > 0 && steps > 0,
              "the sizes of an LSTM layer do not fit");
  Tensor states, before, cells, last_h, last_c;
  AT_DISPATCH_FLOATING_TYPES(projected.scalar_type(), "lstm_forward", [&] {
    using V = Lane<scalar_t>;
    const Step<scalar_t> step(B);
    states = empty_tiles<scalar_t>(steps * B, H, projected.options());
    before = empty_tiles<scalar_t>(steps * B, H, projected.options());
    cells = empty_tiles<scalar_t>(steps * B, H, projected.options());
    Tensor hidden = pack_step<scalar_t>(h, step), cell = pack_step<scalar_t>(c, step);
    Tensor pre = at::empty({step.groups, GATES * H, step.width}, projected.options());
    const Tiles<scalar_t> gates(projected), to_states(states), to_before(before), to_cells(cells);
    scalar_t *hs = hidden.data_ptr<scalar_t>(), *cs = cell.data_ptr<scalar_t>(), *ps = pre.data_ptr<scalar_t>();
    const scalar_t* bs = bias.const_data_ptr<scalar_t>();
    for (int64_t t = 0; t < steps; t++) {
      multiply<scalar_t>(weight, hs, ps, step.groups, step.width, GATES);
      const auto columns = step.columns(t, gates.width);
      for_units(H, step, [&](int64_t u, int64_t group) {
        const Columns& at = columns[group];
        const int64_t count = step.used(group);
        scalar_t* hu = hs + (group * H + u) * step.width;
        scalar_t* cu = cs + (group * H + u) * step.width;
        scalar_t* rows[GATES];
        scalar_t input[blocked::TILE_BYTES / sizeof(scalar_t)] = {};
        to_before.write(u, at, hu);
        for (int g = 0; g < GATES; g++) {
          rows[g] = ps + (group * GATES * H + g * H + u) * step.width;
          gates.read(g * H + u, at, input);
          for (int64_t j = 0; j < step.width; j += V::size())
            (V::loadu(rows[g] + j) + V::loadu(input + j) + V(bs[g * H + u])).store(rows[g] + j);
        }
        step_unit(rows, hu, cu, count);
        for (int64_t j = count; j < step.width; j++) hu[j] = cu[j] = 0;
        for (int g = 0; g < GATES; g++) gates.write(g * H + u, at, rows[g]);
        to_cells.write(u, at, cu);
        to_states.write(u, at, hu);
      });
    }
    last_h = unpack_step<scalar_t>(hidden, step);
    last_c = unpack_step<scalar_t>(cell, step);
  });
  return {states, before, cells, last_h, last_c};
}

// d_states [tiles, H, width]; d_h, d_c [B, H]: of the last; values, structure: those of the transposed recurrent weight.
// Returns the gradients of what enters the gates [tiles, 4H, width], of the first h and c [B, H].
std::vector<Tensor> lstm_backward(const Tensor& d_states, const Tensor& d_h, const Tensor& d_c, const Tensor& c, int64_t steps,
                                  const Tensor& gates, const Tensor& cells, const Tensor& values, at::TensorList structure) {
  const int64_t B = c.size(0), H = c.size(1);
  const Sparse weight(structure, GATES * H, values);
  TORCH_CHECK(weight.layout.rows == H && d_states.is_contiguous() && d_states.size(1) == H && d_h.sizes() == c.sizes() &&
                  d_c.sizes() == c.sizes() && gates.size(1) == GATES * H && cells.sizes() == d_states.sizes() &&
                  gates.size(0) * gates.size(2) >= steps * B && gates.size(2) == cells.size(2),
              "the sizes of an LSTM layer do not fit");
  Tensor d_gates, first_h, first_c;
  AT_DISPATCH_FLOATING_TYPES(d_states.scalar_type(), "lstm_backward", [&] {
    constexpr int64_t widest = blocked::TILE_BYTES / sizeof(scalar_t);
    const Step<scalar_t> step(B);
    d_gates = empty_tiles<scalar_t>(steps * B, GATES * H, d_states.options());
    Tensor dh = pack_step<scalar_t>(d_h, step), dc = pack_step<scalar_t>(d_c, step), c0 = pack_step<scalar_t>(c, step);
    Tensor d_pre = at::zeros({step.groups, GATES * H, step.width}, d_states.options());
    const Tiles<scalar_t> from(d_states), from_gates(gates), from_cells(cells), to_gates(d_gates);
    scalar_t *dhs = dh.data_ptr<scalar_t>(), *dcs = dc.data_ptr<scalar_t>(), *ds = d_pre.data_ptr<scalar_t>();
    const scalar_t* c0s = c0.const_data_ptr<scalar_t>();
    for (int64_t t = steps - 1; t >= 0; t--) {
      const auto columns = step.columns(t, from.width), earlier = step.columns(std::max<int64_t>(t - 1, 0), from.width);
      for_units(H, step, [&](int64_t u, int64_t group) {
        const Columns& at = columns[group];
        const int64_t count = step.used(group);
        scalar_t* dhu = dhs + (group * H + u) * step.width;
        scalar_t* dcu = dcs + (group * H + u) * step.width;
        scalar_t above[widest] = {}, gate[GATES][widest] = {}, now[widest] = {}, before[widest] = {};
        from.read(u, at, above);
        from_cells.read(u, at, now);
        if (t)
          from_cells.read(u, earlier[group], before);
        else
          std::memcpy(before, c0s + (group * H + u) * step.width, count * sizeof(scalar_t));
        for (int g = 0; g < GATES; g++) from_gates.read(g * H + u, at, gate[g]);
        scalar_t* rows[GATES];
        for (int g = 0; g < GATES; g++) rows[g] = ds + (group * GATES * H + g * H + u) * step.width;
        step_unit_back(gate, now, before, dhu, above, dcu, rows, count);
        for (int g = 0; g < GATES; g++) {
          for (int64_t j = count; j < step.width; j++) rows[g][j] = 0;
          to_gates.write(g * H + u, at, rows[g]);
        }
      });
      multiply<scalar_t>(weight, ds, dhs, step.groups, step.width);
    }
    first_h = unpack_step<scalar_t>(dh, step);
    first_c = unpack_step<scalar_t>(dc, step);
  });
  return {d_gates, first_h, first_c};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def("lstm_forward(Tensor(a!) projected, Tensor bias, Tensor h, Tensor c, int steps, Tensor values, Tensor[] structure) -> Tensor[]",
        &lstm_forward);
  m.def("lstm_backward(Tensor d_states, Tensor d_h, Tensor d_c, Tensor c, int steps, Tensor gates, Tensor cells, Tensor values, "
        "Tensor[] structure) -> Tensor[]",
        &lstm_backward);
}
