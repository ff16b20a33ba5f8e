"""What clients speak: one file a protocol, each from a request's body to texts and from predictions to a reply."""
