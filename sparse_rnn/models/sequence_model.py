"""What is asked of every model."""

from torch import nn


class SequenceModel(nn.Module):
    """Reads sequences of tokens."""

    def weight_uses(self, length: int) -> dict[str, int]:
        """How often reading `length` tokens multiplies by each weight; a model of which this is not true says so.

        Once a token, but never by an embedding that is only looked up; one tied with a decoder is used there.
        """
        modules = [module for module in self.modules() if not isinstance(module, nn.Embedding)]
        multiplied = {id(parameter) for module in modules for parameter in module.parameters(recurse=False)}
        weights = {name: parameter for name, parameter in self.named_parameters() if parameter.dim() >= 2}
        return {name: length if id(parameter) in multiplied else 0 for name, parameter in weights.items()}
