"""What people hand in, checked once: batches of images and labels, and classifiers."""
