"""Search over alpha_train with Keras Tuner."""
