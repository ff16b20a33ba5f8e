"""The AWD-LSTM in PyTorch: language model, encoder and classifier, as published. State is passed in and returned."""
