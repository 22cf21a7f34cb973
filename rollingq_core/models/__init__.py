"""Models: encoders, probes and a fusion layer, in the book's size and in the paper's."""
