"""What a command takes: every setting once, its defaults from the recipes, checked before TensorFlow is there."""
