"""What goes on around the steps of a fit: it is stopped, goes on, rolls back, and averages its weights."""
