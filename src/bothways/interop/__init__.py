"""Reading models that other libraries saved."""
