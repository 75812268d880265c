"""Locked dropout and word dropout."""

import pytest
import torch
from torch import nn

from sparse_rnn.models.layers.dropout import LockedDropout, embed_with_word_dropout, inverted_mask


def test_masks_are_zero_or_scale_up():
    torch.manual_seed(1)
    mask = inverted_mask(torch.empty(100, 100), 0.65)
    assert sorted(set(mask.flatten().tolist())) == pytest.approx([0, 1 / 0.35])
    assert float((mask == 0).float().mean()) == pytest.approx(0.65, abs=0.02)
    assert float(mask.mean()) == pytest.approx(1, abs=0.05)


def test_word_dropout_drops_whole_words_with_one_draw_for_all():
    """facts A.2: rows of the embedding, shared by all batch elements and steps, scaled by 1 / (1 - p)."""
    torch.manual_seed(1)
    embedding = nn.Embedding(2000, 6)
    tokens = torch.arange(2000).repeat(3, 1)
    out = embed_with_word_dropout(embedding, tokens, 0.2, training=True)
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2])
    dropped = (out[0] == 0).all(-1)
    assert float(dropped.float().mean()) == pytest.approx(0.2, abs=0.03)
    torch.testing.assert_close(out[0][~dropped], embedding.weight[~dropped] / 0.8)
    again = embed_with_word_dropout(embedding, tokens, 0.2, training=True)
    assert not torch.equal(again[0], out[0])


def test_a_dropped_word_gets_no_gradient_and_a_kept_one_is_scaled():
    torch.manual_seed(1)
    embedding = nn.Embedding(50, 4)
    out = embed_with_word_dropout(embedding, torch.arange(50)[:, None], 0.5, training=True)
    out.sum().backward()
    dropped = (out[:, 0] == 0).all(-1)
    assert dropped.any()
    assert not embedding.weight.grad[dropped].any()
    assert (embedding.weight.grad[~dropped] == 2).all()


def test_locked_dropout_has_the_same_mask_at_all_steps():
    torch.manual_seed(1)
    x = torch.rand(9, 20, 30) + 1
    out = LockedDropout(0.65)(x)
    assert torch.equal(out == 0, (out[:1] == 0).expand_as(out))
    assert float((out[0] == 0).float().mean()) == pytest.approx(0.65, abs=0.05)
    assert not torch.equal(out[0, 0] == 0, out[0, 1] == 0), "sequences have masks of their own"
    torch.testing.assert_close(out[out != 0], x[out != 0] / 0.35)


def test_evaluation_and_zero_probability_change_nothing():
    x, embedding, tokens = torch.rand(3, 2, 4), nn.Embedding(5, 4), torch.tensor([[1, 2]])
    assert LockedDropout(0.5).eval()(x) is x
    assert LockedDropout(0.0)(x) is x
    for p, training in [(0.5, False), (0.0, True)]:
        assert torch.equal(embed_with_word_dropout(embedding, tokens, p, training), embedding(tokens))
