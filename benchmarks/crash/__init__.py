"""kill -9 of every process, at every named point and at random, while twenty cameras record."""
