"""What carries messages: engines, and everything that knows Flower."""
