"""Data and classifiers that users pass in, checked once: batches, images and labels, classifiers."""
