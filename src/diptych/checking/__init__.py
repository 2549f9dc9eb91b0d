"""What is wrong with a dataset, said before training starts: `diptych check`."""
