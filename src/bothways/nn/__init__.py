"""Models in PyTorch, as published: encoder (AWD-LSTM or QRNN), language model and classifier. State is passed."""
