"""The AWD-LSTM in PyTorch, as published: encoder, language model and classifier. LSTM state is passed explicitly."""
