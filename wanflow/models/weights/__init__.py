"""Files of weights to one index of tensors that is read from."""
