"""Recurrent networks; importing this package registers them all."""

from sparse_rnn.models import rhn, stacked_lstm  # noqa: F401
